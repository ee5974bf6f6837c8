/* SPDX-License-Identifier: MIT */
/* json_write.c - the JSON pieces of buffer.h.
 *
 * An answer may hold 200,000 numbers, which printf would take longer over than the classifier: comma_json_float()
 * scales by a power of ten and writes the digits of an integer. */
#include "api/buffer.h"

#include <math.h>
#include <string.h>

#include "api/base64.h"

/* ---- text ---- */

static void put_escape(struct comma_buffer *b, unsigned char c)
{
    static const char short_form[] = { ['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f', ['\r'] = 'r' };
    static const char hex[] = "0123456789abcdef";

    if (c == '"' || c == '\\')
        comma_buffer_put(b, (const char[]){ '\\', (char)c }, 2);
    else if (c < sizeof(short_form) && short_form[c])
        comma_buffer_put(b, (const char[]){ '\\', short_form[c] }, 2);
    else
        comma_buffer_put(b, (const char[]){ '\\', 'u', '0', '0', hex[c >> 4], hex[c & 15] }, 6);
}

/* Bytes of the well-formed character at p, 0 if there is none. */
static size_t character_bytes(const char *p, size_t left)
{
    for (size_t n = 1; n <= 4 && n <= left; n++)
        if (comma_utf8_valid(p, n))
            return n;
    return 0;
}

/* Text that is known to be UTF-8, without the quotes. */
static void put_valid(struct comma_buffer *b, const char *s, size_t size)
{
    size_t start = 0;

    for (size_t i = 0; i < size; i++) {
        const unsigned char c = (unsigned char)s[i];

        if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7F)
            continue;
        comma_buffer_put(b, s + start, i - start);
        put_escape(b, c);
        start = i + 1;
    }
    comma_buffer_put(b, s + start, size - start);
}

void comma_json_text(struct comma_buffer *b, struct comma_text text)
{
    comma_buffer_put(b, "\"", 1);
    if (comma_utf8_valid(text.data, text.size)) {
        put_valid(b, text.data, text.size);
    } else {
        for (size_t i = 0, n; i<text.size; i += n> 0 ? n : 1) {
            n = character_bytes(text.data + i, text.size - i);
            if (n > 0)
                put_valid(b, text.data + i, n);
            else
                comma_buffer_puts(b, "\xEF\xBF\xBD"); /* U+FFFD, the replacement character */
        }
    }
    comma_buffer_put(b, "\"", 1);
}

void comma_json_string(struct comma_buffer *b, const char *s)
{
    comma_json_text(b, comma_text_of(s));
}

/* ---- numbers ---- */

static const double powers[] = { 1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11, 1e12, 1e13,
                                 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22, 1e23, 1e24, 1e25, 1e26, 1e27,
                                 1e28, 1e29, 1e30, 1e31, 1e32, 1e33, 1e34, 1e35, 1e36, 1e37, 1e38, 1e39, 1e40, 1e41,
                                 1e42, 1e43, 1e44, 1e45, 1e46, 1e47, 1e48, 1e49, 1e50, 1e51, 1e52, 1e53, 1e54 };

static double times_power_of_10(double value, int exponent)
{
    return exponent >= 0 ? value * powers[exponent] : value / powers[-exponent];
}

/* *digits * 10^*exponent is value, that of an f32 > 0, in the fewest digits of 6 to 9 that are read back as it.
 *
 * An f32 is read back as itself from whatever is nearer than half the way to its neighbour. Nine digits always are
 * (FLT_DECIMAL_DIG); fewer are tried first. Double arithmetic is wrong by some 2^-51 of the value, for which the 0.999
 * leaves room. */
static void shortest_digits(double value, uint64_t *digits, int *exponent)
{
    int binary;
    const double m = frexp(value, &binary); /* value = m * 2^binary, 0.5 <= m < 1; f32 has 24 bits of m */
    int decimal = (int)((binary - 1) * 0.30102999566398120 + 64) - 64; /* log10(2), down: at most one too small */
    double scaled = times_power_of_10(value, 8 - decimal), half_way;

    if (scaled >= 1e9) {
        decimal++;
        scaled = times_power_of_10(value, 8 - decimal);
    }
    half_way = 0x1p-25 * (m > 0.5 ? scaled / m : scaled); /* below a power of two the steps are half as large */
    for (uint64_t unit = 1000; unit > 0; unit /= 10) {
        *digits = (uint64_t)(scaled / (double)unit + 0.5) * unit;
        if (fabs((double)*digits - scaled) <= 0.999 * half_way)
            break;
    }
    *exponent = decimal - 8;
}

/* Digits of n behind one another; returns how many. */
static int write_digits(uint64_t n, char out[20])
{
    char reversed[20];
    int count = 0;

    do {
        reversed[count++] = (char)('0' + n % 10);
        n /= 10;
    } while (n > 0);
    for (int i = 0; i < count; i++)
        out[i] = reversed[count - 1 - i];
    return count;
}

/* s[n] with the decimal point behind the first `before` digits, or with an exponent where that would take many zeros.
 */
static void put_decimal(struct comma_buffer *b, const char *s, int n, int before)
{
    static const char zeros[] = "000000000";

    if (before > 9 || before < -4) {
        comma_buffer_put(b, s, 1);
        if (n > 1) {
            comma_buffer_put(b, ".", 1);
            comma_buffer_put(b, s + 1, (size_t)(n - 1));
        }
        comma_buffer_put(b, "e", 1);
        comma_json_int(b, before - 1);
    } else if (before <= 0) {
        comma_buffer_puts(b, "0.");
        comma_buffer_put(b, zeros, (size_t)-before);
        comma_buffer_put(b, s, (size_t)n);
    } else if (before >= n) {
        comma_buffer_put(b, s, (size_t)n);
        comma_buffer_put(b, zeros, (size_t)(before - n));
    } else {
        comma_buffer_put(b, s, (size_t)before);
        comma_buffer_put(b, ".", 1);
        comma_buffer_put(b, s + before, (size_t)(n - before));
    }
}

static void fail_not_finite(struct comma_buffer *b)
{
    if (b->why == COMMA_OK)
        b->why = COMMA_E_INTERNAL;
}

void comma_json_float(struct comma_buffer *b, float value)
{
    uint64_t digits = 0;
    int exponent = 0, n;
    char s[20];

    if (!isfinite(value)) {
        fail_not_finite(b);
        return;
    }
    if (signbit(value))
        comma_buffer_put(b, "-", 1);
    if (value == 0) {
        comma_buffer_put(b, "0", 1);
        return;
    }
    shortest_digits(fabs((double)value), &digits, &exponent);
    while (digits % 10 == 0) {
        digits /= 10;
        exponent++;
    }
    n = write_digits(digits, s);
    put_decimal(b, s, n, n + exponent);
}

void comma_json_size(struct comma_buffer *b, size_t value)
{
    char s[20];

    comma_buffer_put(b, s, (size_t)write_digits(value, s));
}

void comma_json_int(struct comma_buffer *b, int64_t value)
{
    char s[20];

    if (value < 0)
        comma_buffer_put(b, "-", 1);
    comma_buffer_put(b, s, (size_t)write_digits(value < 0 ? 0 - (uint64_t)value : (uint64_t)value, s));
}

void comma_json_ms(struct comma_buffer *b, double ms)
{
    uint64_t digits;
    int exponent = -3, n;
    char s[20];

    if (!isfinite(ms) || fabs(ms) > 1e15) {
        fail_not_finite(b);
        return;
    }
    digits = (uint64_t)(fabs(ms) * 1000 + 0.5);
    if (digits == 0) {
        comma_buffer_put(b, "0", 1);
        return;
    }
    for (; digits % 10 == 0; exponent++)
        digits /= 10;
    if (ms < 0)
        comma_buffer_put(b, "-", 1);
    n = write_digits(digits, s);
    put_decimal(b, s, n, n + exponent);
}

void comma_json_base64(struct comma_buffer *b, struct comma_bytes bytes)
{
    comma_buffer_put(b, "\"", 1);
    for (size_t i = 0; i < bytes.size; i += 3) {
        char out[4];

        comma_base64_letters(bytes.data + i, bytes.size - i, out);
        comma_buffer_put(b, out, sizeof(out));
    }
    comma_buffer_put(b, "\"", 1);
}
