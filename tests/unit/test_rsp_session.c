/*
 * test_rsp_session.c - the corpus of conversations: none makes the stub send what is no packet
 */
#include <check.h>

#include "tests/unit/unit.h"

START_TEST(corpus)
{
    unit_corpus("session", 6, LLVMFuzzerTestOneInput);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("rsp_session");
    TCase *tc = tcase_create("corpus");
    tcase_add_test(tc, corpus);
    suite_add_tcase(s, tc);
    return unit_run(s);
}
