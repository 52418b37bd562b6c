/*
 * recorded.c - a rank of the present recording
 */
#include "runtime/cmd/recorded.h"

#include <stdio.h>
#include <stdlib.h>

#include "runtime/image/image.h"

/* The signal by which the rank died in the recording, 0 if it did not. */
static int recorded_signal(struct session *s, uint64_t recording, unsigned rank)
{
    struct session_failure *failures;
    unsigned n;
    int signal = 0;
    if (session_failures(s, recording, &failures, &n, NULL) < 0)
        return 0;
    for (unsigned i = 0; i < n; i++)
        if (failures[i].rank == rank && failures[i].kind == PROTO_FAILURE_SIGNAL)
            signal = (int)failures[i].code;
    free(failures);
    return signal;
}

int recorded_rank(struct session *s, long rank, struct recorded *r, struct err *err)
{
    struct session_phase recording = {0};
    struct image_window w;
    char folder[PATH_MAX];
    if (session_recording(s, &recording, err) < 0)
        return -1;
    unsigned size = session_phase_size(s, recording.id);
    if (rank >= (long)size)
        return size ? err_set(err, "there is no rank %ld in this job; type --rank with 0 to %u",
                              rank, size - 1)
                    : err_set(err, "no rank of this job has come under control; start it again "
                                   "with: dbg3 batch");
    snprintf(folder, sizeof folder, "%.*s/fine/rank-%ld", PATH_MAX - 64, session_dir(s), rank);
    *r = (struct recorded){.rank = (unsigned)rank,
                           .size = size,
                           .from_epoch = recording.from_epoch,
                           .signal = recorded_signal(s, recording.id, (unsigned)rank),
                           .has_fine = image_window_read(folder, &w, NULL) == 0};
    return 0;
}

int recorded_epoch_image(struct session *s, const struct recorded *r, char path[PATH_MAX],
                         struct err *err)
{
    struct session_image *image;
    char folder[PATH_MAX];
    unsigned n;
    *path = '\0';
    if (!r->from_epoch)
        return err_set(err, "rank %u has no fine checkpoint; type: dbg3 refine --every-n-msgs 10",
                       r->rank);
    if (session_images(s, r->from_epoch, &image, &n, err) < 0)
        return -1;
    session_epoch_folder(s, r->from_epoch, folder, sizeof folder);
    for (unsigned i = 0; i < n; i++)
        if (image[i].rank == r->rank)
            snprintf(path, PATH_MAX, "%.*s/%s", PATH_MAX - 128, folder, image[i].file);
    free(image);
    return *path ? 0
                 : err_set(err, "epoch %lu has no image of rank %u", (unsigned long)r->from_epoch,
                           r->rank);
}
