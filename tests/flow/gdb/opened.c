/*
 * opened.c - libopened.so, opened with dlopen: its thread-local storage is made at first use
 */
int opened_set(int number);

static __thread int opened_tls;

int opened_set(int number)
{
    opened_tls = number;
    return opened_tls;
}
