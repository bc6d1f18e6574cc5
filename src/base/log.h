/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One-line messages for people.  The sink is set once by the program; layers
 * below never write to a stream themselves.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

typedef void log_sink_fn(void *arg, enum log_level level, const char *line);

/* => not thread-safe: call before other threads start */
void log_set_sink(log_sink_fn *fn, void *arg, enum log_level max);
void log_msg(enum log_level level, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#define log_error(...) log_msg(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_msg(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_msg(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_msg(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif /* BASE_LOG_H */
