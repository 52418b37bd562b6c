/*
 * db.h - the few things we ask of SQLite, with our errors
 *
 * A statement's arguments are given by a format: i int, u uint64_t (stored as the signed 64-bit
 * integer of the same bits), d double, s const char * (NULL is NULL).
 */
#ifndef DBG3_COORD_DB_H
#define DBG3_COORD_DB_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/err.h"

struct db;
struct db_rows;

/*
 * Opens (creates if asked) a catalog; waits up to 5 s for another process's transaction. Readers
 * open for writing too where they may: only so can they roll back what a killed writer left.
 */
struct db *db_open(const char *path, bool create, struct err *err);
void db_close(struct db *db);

/* Runs one statement that returns no rows. */
int db_run(struct db *db, struct err *err, const char *sql, const char *format, ...);

/* Runs several statements without arguments. */
int db_script(struct db *db, const char *sql, struct err *err);

/* Everything between begin and commit becomes true at once or never. */
int db_begin(struct db *db, struct err *err);
int db_commit(struct db *db, struct err *err);
void db_rollback(struct db *db);

/* A query. db_next() returns 1 with a row, 0 at the end, -1 on error. db_rows_close(NULL) is
 * fine. */
struct db_rows *db_query(struct db *db, struct err *err, const char *sql, const char *format, ...);
int db_next(struct db_rows *rows, struct err *err);
void db_rows_close(struct db_rows *rows);

/* Columns of the present row, from 0. Text lives until the next db_next(); never NULL. */
uint64_t db_u64(struct db_rows *rows, int column);
double db_double(struct db_rows *rows, int column);
const char *db_text(struct db_rows *rows, int column);

/* First column of the first row, or `otherwise` if there is none. */
int db_number(struct db *db, const char *sql, uint64_t otherwise, uint64_t *value, struct err *err);

#endif
