#include "base/text.h"

#include <criterion/criterion.h>
#include <math.h>

TestSuite(text, .timeout = 10);

Test(text, distance_counts_inserted_deleted_and_replaced_letters) {
    static const struct {
        const char *a, *b;
        int d;
    } cases[] = {{"", "", 0}, {"conv", "conv", 0}, {"", "conv", 4}, {"conv", "", 4},
        {"conv", "covn", 2}, {"kitten", "sitting", 3}, {"flaw", "lawn", 2}, {"relu", "rlu", 1},
        {"dense", "dence", 1}, {"abc", "xyz", 3}};
    for (int i = 0; i < (int)(sizeof cases / sizeof *cases); i++) {
        cr_assert(
            text_distance(cases[i].a, cases[i].b) == cases[i].d, "%s %s", cases[i].a, cases[i].b);
        cr_assert(
            text_distance(cases[i].b, cases[i].a) == cases[i].d, "%s %s", cases[i].b, cases[i].a);
    }
}

Test(text, long_words_are_looked_at_up_to_a_point) {
    char a[200] = {0}, b[200] = {0};
    for (int i = 0; i < 199; i++) a[i] = 'a', b[i] = 'b';
    cr_assert(text_distance(a, b) == 63);
    cr_assert(text_distance(a, "") == 63);
}

Test(text, a_float_has_the_digits_that_read_back_to_it) {
    char text[32];
    cr_assert_str_eq(text_float(text, sizeof text, 0.05f), "0.05");
    cr_assert_str_eq(text_float(text, sizeof text, 0.0123456789f), "0.012345679");
    cr_assert_str_eq(text_float(text, sizeof text, 16777216.0f), "16777216");
    cr_assert_str_eq(text_float(text, sizeof text, 0x1.000002p0f), "1.0000001");
    cr_assert_str_eq(text_float(text, sizeof text, 0x1.fffffep9f), "1023.99994");
}

Test(text, what_is_not_a_number_is_said_in_words) {
    char text[32];
    cr_assert_str_eq(text_number(text, sizeof text, (double)NAN), "not a number");
    cr_assert_str_eq(text_number(text, sizeof text, -(double)NAN), "not a number");
    cr_assert_str_eq(text_number(text, sizeof text, 0.25), "0.25");
    cr_assert_str_eq(text_number(text, 4, 0.25), "0.2");
}
