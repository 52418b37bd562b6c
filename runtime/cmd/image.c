/*
 * image.c - dbg3 image: describe an image; dbg3 core: write a whole core file from a chain of them
 */
#include "runtime/image/image.h"

#include "runtime/base/human.h"
#include "runtime/cmd/cmd.h"

struct image_command {
    bool json, verify, with_files;
    const char *file, *out;
};

static const struct argp_option image_options[] = {
    {"json", 'j', NULL, 0, "print facts as JSON", 1},
    {"verify", 'V', NULL, 0, "check every checksum of the image and its parents as well", 1},
    {0}};
static const struct argp_option core_options[] = {
    {"output", 'o', "OUT", 0, "file to write (required)", 1},
    {"with-files", 'F', NULL, 0, "copy clean pages of mapped files too, so that the core can be "
                                 "carried to a machine without them", 1},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct image_command *c = state->input;
    switch (key) {
    case 'j':
        c->json = true;
        return 0;
    case 'V':
        c->verify = true;
        return 0;
    case 'F':
        c->with_files = true;
        return 0;
    case 'o':
        c->out = arg;
        return 0;
    case ARGP_KEY_ARG:
        if (c->file)
            argp_error(state, "one image at a time; what is %s?", arg);
        c->file = arg;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "which image? Epochs' are in SESSION/epochs/NNNN/, fine checkpoints in "
                          "SESSION/fine/rank-R/ (NNNNNNNN.inc@N)");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const struct argp image_argp = {image_options,
                                parse,
                                "FILE",
                                "Describe a checkpoint image: what process it is of, its memory, "
                                "threads and open files.\vAn image "
                                "is an ELF core file: gdb PROGRAM FILE opens it. "
                                "SEGMENT.inc@N names one of the increments in a segment of fine "
                                "checkpoints, SEGMENT.inc the newest.",
                                NULL,
                                NULL,
                                NULL};
const struct argp core_argp = {
    core_options, parse, "FILE -o OUT",
    "Write an image and the parents it names as one whole ELF core file.", NULL, NULL, NULL};

int cmd_image(int argc, char **argv)
{
    struct err err = {0};
    struct image_command c = {0};
    cmd_parse(&image_argp, argc, argv, 0, &c);
    struct image *image = image_open(c.file, &err);
    int rc = image ? image_dump(image, stdout, c.json, &err) : -1;
    image_close(image);
    if (rc == 0 && c.verify)
        rc = image_verify(c.file, &err);
    return rc < 0 ? cmd_fail(EXIT_ERROR, &err) : EXIT_DONE;
}

int cmd_core(int argc, char **argv)
{
    struct err err = {0};
    struct image_command c = {0};
    struct image_written written;
    char bytes[16];
    cmd_parse(&core_argp, argc, argv, 0, &c);
    if (!c.out) {
        err_set(&err, "where to? dbg3 core %s -o OUT", c.file);
        return cmd_fail(EXIT_USAGE, &err);
    }
    struct image *image = image_open(c.file, &err);
    int rc = image ? image_core(image, c.out, c.with_files, &written, &err) : -1;
    if (rc == 0)
        printf("%s: %s; open it with: gdb %s %s\n", c.out,
               human_bytes(written.file_bytes, bytes, sizeof bytes),
               image_state(image)->meta.program ?: "PROGRAM", c.out);
    image_close(image);
    return rc < 0 ? cmd_fail(EXIT_ERROR, &err) : EXIT_DONE;
}
