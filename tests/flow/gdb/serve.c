/*
 * serve.c - the stub alone, without the dbg3 command: for tests of gdbbridge/
 */
#include "gdbbridge/gdbserver.h"

int main(int argc, char **argv)
{
    return gdbserver_main(argc, argv);
}
