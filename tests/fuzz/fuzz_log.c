/*
 * fuzz_log.c - a segment file of any bytes is opened and dumped without harm
 */
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "msgcounter/log/log_dump.h"
#include "msgcounter/log/log_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char dir[] = "/tmp/fuzz_log.XXXXXX", path[64], folder[64];
    FILE *null = fopen("/dev/null", "w");
    if (!null || !mkdtemp(dir))
        abort();
    snprintf(folder, sizeof folder, "%s/rank-0", dir);
    mkdir(folder, 0700);
    log_file_path(path, sizeof path, dir, 0, 0);
    FILE *f = fopen(path, "w");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f))
        abort();
    for (int json = 0; json < 2; json++) {
        struct log_reader *r;
        if (log_reader_open(&r, dir, 0, NULL, NULL) == 0) {
            log_dump(r, null, &(struct log_dump_opts){.json = json}, NULL);
            log_reader_close(r);
        }
    }
    fclose(null);
    return unlink(path) | rmdir(folder) | rmdir(dir);
}
