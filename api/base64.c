/* SPDX-License-Identifier: MIT */
/* base64.c - see base64.h. Four letters a step from a table; escapes, padding and the end letter by letter. */
#include "api/base64.h"

#include <string.h>

static const char letters[64] = { 'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J', 'K', 'L', 'M', 'N', 'O', 'P',
                                  'Q', 'R', 'S', 'T', 'U', 'V', 'W', 'X', 'Y', 'Z', 'a', 'b', 'c', 'd', 'e', 'f',
                                  'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p', 'q', 'r', 's', 't', 'u', 'v',
                                  'w', 'x', 'y', 'z', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '+', '/' };

/* Value of a letter plus 1; 0 for what is none. */
static const unsigned char values[256] = {
    ['A'] = 1,  ['B'] = 2,  ['C'] = 3,  ['D'] = 4,  ['E'] = 5,  ['F'] = 6,  ['G'] = 7,  ['H'] = 8,
    ['I'] = 9,  ['J'] = 10, ['K'] = 11, ['L'] = 12, ['M'] = 13, ['N'] = 14, ['O'] = 15, ['P'] = 16,
    ['Q'] = 17, ['R'] = 18, ['S'] = 19, ['T'] = 20, ['U'] = 21, ['V'] = 22, ['W'] = 23, ['X'] = 24,
    ['Y'] = 25, ['Z'] = 26, ['a'] = 27, ['b'] = 28, ['c'] = 29, ['d'] = 30, ['e'] = 31, ['f'] = 32,
    ['g'] = 33, ['h'] = 34, ['i'] = 35, ['j'] = 36, ['k'] = 37, ['l'] = 38, ['m'] = 39, ['n'] = 40,
    ['o'] = 41, ['p'] = 42, ['q'] = 43, ['r'] = 44, ['s'] = 45, ['t'] = 46, ['u'] = 47, ['v'] = 48,
    ['w'] = 49, ['x'] = 50, ['y'] = 51, ['z'] = 52, ['0'] = 53, ['1'] = 54, ['2'] = 55, ['3'] = 56,
    ['4'] = 57, ['5'] = 58, ['6'] = 59, ['7'] = 60, ['8'] = 61, ['9'] = 62, ['+'] = 63, ['/'] = 64,
};

static bool is_hex_letter(unsigned char c, unsigned *value)
{
    if (c >= '0' && c <= '9')
        *value = c - (unsigned)'0';
    else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
        *value = (c | 0x20u) - (unsigned)'a' + 10;
    else
        return false;
    return true;
}

/* The character at *pos, which then stands behind it; above 255 if it cannot be one of ours. */
static unsigned next_character(const unsigned char *data, size_t size, bool escaped, size_t *pos)
{
    unsigned c = data[*pos], digit = 0;

    *pos += 1;
    if (c != '\\' || !escaped)
        return c;
    if (*pos < size && data[*pos] == '/') {
        *pos += 1;
        return '/';
    }
    if (size - *pos < 5 || data[*pos] != 'u')
        return 256;
    c = 0;
    for (size_t i = 1; i < 5; i++) {
        if (!is_hex_letter(data[*pos + i], &digit))
            return 256;
        c = c * 16 + digit;
    }
    *pos += 5;
    return c;
}

/* Whole groups of four plain letters from *pos on; stops at the first that is something else. */
static size_t decode_plain(unsigned char *data, size_t size, size_t *pos)
{
    size_t in = *pos, out = 0;

    for (; size - in >= 4; in += 4) {
        const unsigned a = values[data[in]], b = values[data[in + 1]], c = values[data[in + 2]],
                       d = values[data[in + 3]];

        if (!a || !b || !c || !d)
            break;
        data[out++] = (unsigned char)((a - 1) << 2 | (b - 1) >> 4);
        data[out++] = (unsigned char)((b - 1) << 4 | (c - 1) >> 2);
        data[out++] = (unsigned char)((c - 1) << 6 | (d - 1));
    }
    *pos = in;
    return out;
}

bool comma_base64_decode(unsigned char *data, size_t size, bool escaped, size_t *n_bytes, size_t *bad)
{
    size_t in = 0, out = decode_plain(data, size, &in), n_letters = 0, n_pads = 0;
    uint32_t bits = 0;

    while (in < size) {
        const size_t at = in;
        const unsigned c = next_character(data, size, escaped, &in);

        *bad = at;
        if (c == '=' && n_letters >= 2 && n_letters + n_pads < 4) {
            n_pads++;
            continue;
        }
        if (c > 255 || !values[c] || n_pads > 0)
            return false;
        bits = bits << 6 | (uint32_t)(values[c] - 1);
        if (++n_letters == 4) {
            data[out++] = (unsigned char)(bits >> 16);
            data[out++] = (unsigned char)(bits >> 8);
            data[out++] = (unsigned char)bits;
            bits = 0;
            n_letters = 0;
        }
    }
    *bad = size;
    if (n_letters == 1 || (n_pads > 0 && n_letters + n_pads != 4))
        return false;
    if ((n_letters == 2 && (bits & 0xF) != 0) || (n_letters == 3 && (bits & 3) != 0))
        return false;
    if (n_letters == 2) {
        data[out++] = (unsigned char)(bits >> 4);
    } else if (n_letters == 3) {
        data[out++] = (unsigned char)(bits >> 10);
        data[out++] = (unsigned char)(bits >> 2);
    }
    *n_bytes = out;
    return true;
}

void comma_base64_letters(const unsigned char *bytes, size_t n_bytes, char *out)
{
    const unsigned b0 = bytes[0], b1 = n_bytes > 1 ? bytes[1] : 0, b2 = n_bytes > 2 ? bytes[2] : 0;

    out[0] = letters[b0 >> 2];
    out[1] = letters[(b0 & 3) << 4 | b1 >> 4];
    out[2] = n_bytes > 1 ? letters[(b1 & 15) << 2 | b2 >> 6] : '=';
    out[3] = n_bytes > 2 ? letters[b2 & 63] : '=';
}
