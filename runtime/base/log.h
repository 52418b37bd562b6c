/*
 * log.h - diagnostic messages, off unless asked for
 *
 * DBG3_LOG=image:debug,coord:info sets the level by module; a bare level sets all. A file names its
 * module with `#define LOG_MODULE "image"` before this header (by habit its file stem). Errors that
 * the user must see do not go through here: they are struct err, printed by the command.
 */
#ifndef DBG3_BASE_LOG_H
#define DBG3_BASE_LOG_H

#include <stdbool.h>

enum log_level { LOG_NONE, LOG_WARN, LOG_INFO, LOG_DEBUG };

#ifndef LOG_MODULE
#define LOG_MODULE "dbg3"
#endif

/* True if messages of this level and module are wanted. Reads DBG3_LOG once. */
bool log_wanted(const char *module, enum log_level level);

/* One line on standard error: "dbg3[pid] module: text". One write(2), so that ranks do not mix. */
void log_line(const char *module, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_at(level, ...)                                                                         \
    do {                                                                                           \
        if (log_wanted(LOG_MODULE, level))                                                         \
            log_line(LOG_MODULE, __VA_ARGS__);                                                     \
    } while (0)
#define log_warn(...)  log_at(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)

#endif
