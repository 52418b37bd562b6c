/*
 * db.c - the few things we ask of SQLite, with our errors
 */
#include "runtime/coord/db.h"

#include <sqlite3.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define BUSY_MS 5000

struct db {
    sqlite3 *handle;
    char *path;
};

/* A db_rows is a statement; the type exists so that SQLite's header stays here. */
static sqlite3_stmt *statement_of(struct db_rows *rows)
{
    return (sqlite3_stmt *)rows;
}

static int db_error(sqlite3 *handle, struct err *err)
{
    const char *path = sqlite3_db_filename(handle, "main");
    return err_set(err, "%s: %s", path && *path ? path : "catalog", sqlite3_errmsg(handle));
}

static int open_handle(struct db *db, int flags)
{
    int rc = sqlite3_open_v2(db->path, &db->handle, flags, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_busy_timeout(db->handle, BUSY_MS); /* another process may be committing */
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(db->handle, "SELECT * FROM sqlite_master LIMIT 1", NULL, NULL, NULL);
    return rc;
}

struct db *db_open(const char *path, bool create, struct err *err)
{
    struct db *db = calloc(1, sizeof *db);
    if (!db || !(db->path = strdup(path))) {
        err_sys(err, "%s", path);
        goto fail;
    }
    int rc = open_handle(db, SQLITE_OPEN_READWRITE | (create ? SQLITE_OPEN_CREATE : 0));
    if (rc != SQLITE_OK && !create) {
        sqlite3_close(db->handle);
        rc = open_handle(db, SQLITE_OPEN_READONLY);
    }
    if (rc != SQLITE_OK) {
        err_set(err, "%s: %s", path, db->handle ? sqlite3_errmsg(db->handle) : "out of memory");
        goto fail;
    }
    if (!sqlite3_db_readonly(db->handle, "main") &&
        db_script(db, "PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL;", err) < 0)
        goto fail;
    return db;
fail:
    db_close(db);
    return NULL;
}

void db_close(struct db *db)
{
    if (!db)
        return;
    sqlite3_close(db->handle);
    free(db->path);
    free(db);
}

int db_script(struct db *db, const char *sql, struct err *err)
{
    if (sqlite3_exec(db->handle, sql, NULL, NULL, NULL) != SQLITE_OK)
        return db_error(db->handle, err);
    return 0;
}

static int bind(sqlite3_stmt *stmt, const char *format, va_list ap)
{
    for (int i = 0; format[i]; i++) {
        int rc = SQLITE_MISUSE;
        switch (format[i]) {
        case 'i':
            rc = sqlite3_bind_int(stmt, i + 1, va_arg(ap, int));
            break;
        case 'u':
            rc = sqlite3_bind_int64(stmt, i + 1, (sqlite3_int64)va_arg(ap, uint64_t));
            break;
        case 'd':
            rc = sqlite3_bind_double(stmt, i + 1, va_arg(ap, double));
            break;
        case 's':
            rc = sqlite3_bind_text(stmt, i + 1, va_arg(ap, const char *), -1, SQLITE_TRANSIENT);
            break;
        }
        if (rc != SQLITE_OK)
            return -1;
    }
    return 0;
}

static sqlite3_stmt *prepare(struct db *db, struct err *err, const char *sql, const char *format,
                             va_list ap)
{
    sqlite3_stmt *stmt;
    if (sqlite3_prepare_v2(db->handle, sql, -1, &stmt, NULL) != SQLITE_OK ||
        bind(stmt, format, ap) < 0) {
        db_error(db->handle, err);
        sqlite3_finalize(stmt);
        return NULL;
    }
    return stmt;
}

int db_run(struct db *db, struct err *err, const char *sql, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    sqlite3_stmt *stmt = prepare(db, err, sql, format, ap);
    va_end(ap);
    if (!stmt)
        return -1;
    int rc = sqlite3_step(stmt) == SQLITE_DONE ? 0 : db_error(db->handle, err);
    sqlite3_finalize(stmt);
    return rc;
}

int db_begin(struct db *db, struct err *err)
{
    return db_script(db, "BEGIN IMMEDIATE", err);
}

int db_commit(struct db *db, struct err *err)
{
    return db_script(db, "COMMIT", err);
}

void db_rollback(struct db *db)
{
    if (!sqlite3_get_autocommit(db->handle))
        db_script(db, "ROLLBACK", NULL);
}

struct db_rows *db_query(struct db *db, struct err *err, const char *sql, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    sqlite3_stmt *stmt = prepare(db, err, sql, format, ap);
    va_end(ap);
    return (struct db_rows *)stmt;
}

int db_next(struct db_rows *rows, struct err *err)
{
    int rc = sqlite3_step(statement_of(rows));
    if (rc == SQLITE_ROW)
        return 1;
    return rc == SQLITE_DONE ? 0 : db_error(sqlite3_db_handle(statement_of(rows)), err);
}

void db_rows_close(struct db_rows *rows)
{
    sqlite3_finalize(statement_of(rows));
}

uint64_t db_u64(struct db_rows *rows, int column)
{
    return (uint64_t)sqlite3_column_int64(statement_of(rows), column);
}

double db_double(struct db_rows *rows, int column)
{
    return sqlite3_column_double(statement_of(rows), column);
}

const char *db_text(struct db_rows *rows, int column)
{
    const unsigned char *s = sqlite3_column_text(statement_of(rows), column);
    return s ? (const char *)s : "";
}

int db_number(struct db *db, const char *sql, uint64_t otherwise, uint64_t *value, struct err *err)
{
    struct db_rows *rows = db_query(db, err, sql, "");
    if (!rows)
        return -1;
    int rc = db_next(rows, err);
    if (rc >= 0)
        *value = rc ? db_u64(rows, 0) : otherwise;
    db_rows_close(rows);
    return rc < 0 ? -1 : 0;
}
