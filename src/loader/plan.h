/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The inside of the loader.  A boot protocol reads a kernel image that it
 * must not trust and makes a plan: what goes where in guest memory, and the
 * registers at entry.  Planning is a pure function over buffers, so that
 * tests and fuzzers need no machine; loader.c carries a finished plan out.
 *
 * Invariant: the pieces of a plan lie in RAM as the guest's memory map shows
 * it, outside the hole below 1 MB and outside reserved ranges, and do not
 * overlap.  Only plan.c adds pieces.
 */
#ifndef LOADER_PLAN_H
#define LOADER_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "loader/loader.h"

#define PLAN_MAXPIECE 96
#define PLAN_MAXOWN 8
#define PLAN_MAXMAP (2 * LOADER_MAXRESERVED + 8)

struct plan_input {
	const uint8_t *img; /* the kernel file */
	size_t len;
	const char *name; /* of the kernel, for multiboot's command line */
	const char *append;
	struct {
		uint64_t len;
		const char *name, *args;
	} module[LOADER_MAXMODULES];
	unsigned nmodule;
	gpa_t rsdp;
	uint64_t low, high; /* RAM at 0 and at 4 GB */
	const struct loader_range *reserved;
	size_t nreserved;
};

struct plan_piece {
	gpa_t gpa;
	uint64_t len;	  /* that it occupies, > 0 */
	const void *data; /* the first datalen bytes; the rest stays zero */
	uint64_t datalen;
	int module; /* >= 0: the contents of that module instead of data */
};

enum plan_mode { PLAN_PROT32, PLAN_LONG64 };

struct plan {
	const struct plan_input *in;
	struct plan_piece piece[PLAN_MAXPIECE];
	unsigned npiece;
	void *own[PLAN_MAXOWN]; /* buffers that pieces point at */
	unsigned nown;
	struct loader_range map[PLAN_MAXMAP]; /* the guest's memory map */
	unsigned nmap;
	/* Entry state. */
	enum plan_mode mode;
	uint64_t rip, rax, rbx, rsi;
	gpa_t cr3, gdt;
	const char *protocol; /* for messages */
	char err[200];	      /* reason, without the file's name */
};

/*
 * Plans the boot of in->img by whatever protocol it speaks.  `in` and the
 * image must live as long as the plan; plan_fini() in any case.
 * => 0, or -errno with plan->err set
 */
int plan_make(const struct plan_input *in, struct plan *p) BASE_MUST_CHECK;
void plan_fini(struct plan *p);

/* --- for the protocols ------------------------------------------------- */

/* => error, with plan->err set from fmt */
int plan_fail(struct plan *p, int error, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* [gpa, gpa+len) of the guest, its first datalen bytes from data. */
int plan_place(struct plan *p, gpa_t gpa, uint64_t len, const void *data,
    uint64_t datalen, const char *what) BASE_MUST_CHECK;
/*
 * Finds len free bytes in [min, max) (max 0: no limit), aligned to a power
 * of two, lowest or highest.  => -ENOSPC (no message)
 */
enum plan_dir { PLAN_LOWEST, PLAN_HIGHEST };
int plan_find(const struct plan *p, uint64_t len, uint64_t align, gpa_t min,
    gpa_t max, enum plan_dir dir, gpa_t *gpap) BASE_MUST_CHECK;
/* A zeroed buffer of the plan's own. => NULL: no memory, err is set */
void *plan_buffer(struct plan *p, size_t len);
/* Finds room below 1 MB (or anywhere below 3 GB) for such a buffer. */
int plan_place_low(struct plan *p, const void *data, uint64_t len,
    const char *what, gpa_t *gpap) BASE_MUST_CHECK;
/* Module i at gpa, which plan_find() gave. */
int plan_place_module(struct plan *p, unsigned i, gpa_t gpa) BASE_MUST_CHECK;
/* All modules, each page aligned below 4 GB; out[i] is where. */
int plan_place_modules(struct plan *p,
    gpa_t out[LOADER_MAXMODULES]) BASE_MUST_CHECK;
/* The descriptor table of the entry state. */
int plan_place_gdt(struct plan *p) BASE_MUST_CHECK;

int bzimage_plan(struct plan *p) BASE_MUST_CHECK;
int pvh_plan(struct plan *p, uint32_t entry) BASE_MUST_CHECK;
int multiboot_plan(struct plan *p, size_t header) BASE_MUST_CHECK;

/* => true if the image is one of that kind, broken or not */
bool bzimage_probe(const struct plan_input *in);
bool multiboot_probe(const struct plan_input *in, size_t *headerp);

/* --- ELF --------------------------------------------------------------- */

bool elf_probe(const struct plan_input *in);
/* Places all PT_LOAD segments at their physical addresses. */
int elf_place(struct plan *p, uint64_t *entryp) BASE_MUST_CHECK;
/* => 0 and the 32-bit entry of the Xen PHYS32_ENTRY note; -ENOENT: none */
int elf_pvh_entry(struct plan *p, uint32_t *entryp) BASE_MUST_CHECK;

/* --- bytes -------------------------------------------------------------- */

static inline uint16_t
plan_get16(const uint8_t *b)
{
	return (uint16_t)(b[0] | b[1] << 8);
}

static inline uint32_t
plan_get32(const uint8_t *b)
{
	return plan_get16(b) | (uint32_t)plan_get16(b + 2) << 16;
}

static inline uint64_t
plan_get64(const uint8_t *b)
{
	return plan_get32(b) | (uint64_t)plan_get32(b + 4) << 32;
}

static inline void
plan_put16(uint8_t *b, uint16_t v)
{
	b[0] = (uint8_t)v;
	b[1] = (uint8_t)(v >> 8);
}

static inline void
plan_put32(uint8_t *b, uint32_t v)
{
	plan_put16(b, (uint16_t)v);
	plan_put16(b + 2, (uint16_t)(v >> 16));
}

static inline void
plan_put64(uint8_t *b, uint64_t v)
{
	plan_put32(b, (uint32_t)v);
	plan_put32(b + 4, (uint32_t)(v >> 32));
}

#endif /* LOADER_PLAN_H */
