/* SPDX-License-Identifier: MIT */
/* keys.h - who may use the server: API keys, stored as hashes, each with a rate and the models it may use.
 *
 * The file has a line for each key, "#" starts a comment:
 *
 *     name:sha256 of the key in hexadecimal:requests a second:burst:models, comma-separated, or *
 *     alice:5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8:10:20:emoji,groups
 *
 * Rate 0 is no limit. The key of the name "admin" opens POST /admin/reload and nothing else. A fast hash is right for
 * keys of 128 random bits and more. A presented key is hashed and compared with every line in constant time, so time
 * tells neither which bytes nor which line were right. A set is never changed, only replaced; any thread. */
#ifndef COMMA_SERVER_KEYS_H
#define COMMA_SERVER_KEYS_H

#include <stdint.h>

#include "engine/base/error.h"
#include "engine/base/text.h"

struct comma_keys;
struct comma_key;

COMMA_MUST_CHECK
bool comma_keys_load(const char *path, struct comma_keys **out, struct comma_error *err);
struct comma_keys *comma_keys_ref(struct comma_keys *keys); /* NULL is fine, in and out */
void comma_keys_unref(struct comma_keys *keys);             /* NULL is fine */

/* The line that a presented key belongs to, which pins the set until comma_key_unref(); NULL if none. */
struct comma_key *comma_keys_find(struct comma_keys *keys, struct comma_text presented);
void comma_key_unref(struct comma_key *key); /* NULL is fine */

const char *comma_key_name(const struct comma_key *key);
bool comma_key_is_admin(const struct comma_key *key);
bool comma_key_allows(const struct comma_key *key, const char *model);

/* Takes one request from the key's bucket at time now. Where it is empty: false, and the whole seconds until the next.
 */
bool comma_key_take(struct comma_key *key, int64_t now_ns, unsigned *retry_after_s);

/* SHA-256 (FIPS 180-4) of data. out: [32] */
void comma_sha256(const void *data, size_t size, unsigned char *out);

#endif
