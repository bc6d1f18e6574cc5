/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * KASSERT: a broken invariant of our own ends the process with a line that
 * says which; on in release builds too.  Never used for what a guest does.
 * KASSERT_DEBUG is for hot paths and is compiled only where NDEBUG is not set.
 */
#ifndef BASE_CHECK_H
#define BASE_CHECK_H

_Noreturn void base_panic(const char *file, int line, const char *expr,
    const char *fmt, ...) __attribute__((format(printf, 4, 5), cold));

#define KASSERT(e, ...)                                                 \
	do {                                                            \
		if (__builtin_expect(!(e), 0))                          \
			base_panic(__FILE__, __LINE__, #e, __VA_ARGS__); \
	} while (0)

#ifdef NDEBUG
#define KASSERT_DEBUG(e, ...) ((void)0)
#else
#define KASSERT_DEBUG(e, ...) KASSERT(e, __VA_ARGS__)
#endif

#define BASE_MUST_CHECK __attribute__((warn_unused_result))
#define BASE_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define BASE_CONTAINER_OF(p, type, member) \
	((type *)((char *)(p) - offsetof(type, member)))
#define base_min(a, b) ((a) < (b) ? (a) : (b))
#define base_max(a, b) ((a) > (b) ? (a) : (b))
#define base_roundup(x, a) (((x) + (a) - 1) / (a) * (a))
#define base_rounddown(x, a) ((x) / (a) * (a))

#endif /* BASE_CHECK_H */
