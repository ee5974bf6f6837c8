/* SPDX-License-Identifier: MIT */
/* clip.c - models on disk: every spelling of the names gives the same weights, sizes come from the files, and what
 * contradicts itself is refused with words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "models/clip.h"
#include "models/safetensors.h"

#define MICRO COMMA_SOURCE_ROOT "/tests/golden/data/micro/"
#define TINY  COMMA_SOURCE_ROOT "/tests/golden/data/tiny/"

/* ---- making model directories ---- */

static char scratch[64];

static int make_scratch(void **state)
{
    (void)state;
    strcpy(scratch, "/tmp/comma-clip-XXXXXX");
    return mkdtemp(scratch) ? 0 : -1;
}

static int remove_scratch(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof(command), "rm -rf '%s'", scratch);
    return system(command);
}

static void put(const char *name, const void *data, size_t size)
{
    char path[256];
    FILE *f;

    snprintf(path, sizeof(path), "%s/%s", scratch, name);
    f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

static void put_text(const char *name, const char *text)
{
    put(name, text, strlen(text));
}

/* name in scratch becomes a link to a golden file. */
static void link_golden(const char *golden, const char *name)
{
    char path[256];

    snprintf(path, sizeof(path), "%s/%s", scratch, name);
    unlink(path);
    assert_int_equal(symlink(golden, path), 0);
}

static struct comma_clip *open_scratch(void)
{
    struct comma_error err = { 0 };
    struct comma_clip *clip = NULL;

    if (!comma_clip_open(scratch, &clip, &err))
        fail_msg("%s", err.message);
    return clip;
}

static void assert_refused(enum comma_code code, const char *words)
{
    struct comma_error err = { 0 };
    struct comma_clip *clip = NULL;

    assert_false(comma_clip_open(scratch, &clip, &err));
    if (!strstr(err.message, words))
        fail_msg("\"%s\" does not say \"%s\"", err.message, words);
    assert_int_equal(err.code, code);
}

/* ---- weights ---- */

static float *floats_of(const struct comma_tensor *t)
{
    struct comma_error err = { 0 };
    float *out = malloc((comma_tensor_count(t) + 1) * sizeof(*out));

    assert_non_null(out);
    if (!comma_tensor_to_f32(t, out, &err))
        fail_msg("%s", err.message);
    return out;
}

static void assert_same_tensor(const struct comma_tensor *a, const struct comma_tensor *b)
{
    float *x = floats_of(a), *y = floats_of(b);

    assert_int_equal(a->n_dims, b->n_dims);
    assert_memory_equal(a->shape, b->shape, a->n_dims * sizeof(*a->shape));
    assert_memory_equal(x, y, comma_tensor_count(a) * sizeof(*x));
    free(x);
    free(y);
}

static void assert_same_weights(const struct comma_clip *a, const struct comma_clip *b)
{
    struct comma_tensor x, y;

    for (int role = 0; role < COMMA_N_CLIP_ROLES; role++) {
        x = comma_clip_tensor(a, (enum comma_clip_role)role);
        y = comma_clip_tensor(b, (enum comma_clip_role)role);
        assert_same_tensor(&x, &y);
    }
    for (int tower = COMMA_VISION; tower <= COMMA_TEXT; tower++)
        for (int role = 0; role < COMMA_N_BLOCK_ROLES; role++) {
            x = comma_clip_block_tensor(a, (enum comma_tower)tower, 0, (enum comma_block_role)role);
            y = comma_clip_block_tensor(b, (enum comma_tower)tower, 0, (enum comma_block_role)role);
            assert_same_tensor(&x, &y);
        }
    assert_true(comma_clip_config(a)->logit_scale == comma_clip_config(b)->logit_scale);
    assert_int_equal(comma_clip_n_parameters(a), comma_clip_n_parameters(b));
}

static void every_spelling_and_dtype_gives_the_same_weights(void **state)
{
    struct comma_error err = { 0 };
    struct comma_clip *hf = NULL, *openai, *bf16;

    (void)state;
    if (!comma_clip_open(MICRO "hf", &hf, &err))
        fail_msg("%s", err.message);
    link_golden(MICRO "openai_names_f32.safetensors", "model.safetensors");
    openai = open_scratch();
    link_golden(MICRO "hf_names_bf16.safetensors", "model.safetensors");
    bf16 = open_scratch();
    assert_same_weights(hf, openai);
    assert_same_weights(hf, bf16);
    assert_int_equal(comma_clip_dtype(hf), COMMA_F16);
    assert_int_equal(comma_clip_dtype(openai), COMMA_F32);
    assert_int_equal(comma_clip_dtype(bf16), COMMA_BF16);
    assert_int_equal(comma_clip_stored_bytes(openai), 4 * comma_clip_n_parameters(openai) - 4);
    comma_clip_close(hf);
    comma_clip_close(openai);
    comma_clip_close(bf16);
}

static void sizes_come_from_the_tensors(void **state)
{
    struct comma_clip *clip;
    const struct comma_clip_config *c;

    (void)state;
    link_golden(MICRO "openai_names_f32.safetensors", "model.safetensors");
    clip = open_scratch();
    c = comma_clip_config(clip);
    assert_int_equal(c->vision.width, 64);
    assert_int_equal(c->vision.layers, 1);
    assert_int_equal(c->vision.heads, 1);
    assert_int_equal(c->vision.mlp_dim, 256);
    assert_int_equal(c->text.width, 64);
    assert_int_equal(c->embed_dim, 24);
    assert_int_equal(c->image_size, 16);
    assert_int_equal(c->patch_size, 8);
    assert_int_equal(c->grid, 2);
    assert_int_equal(c->context_length, 77);
    assert_int_equal(c->vocab_size, 576);
    assert_int_equal(c->vision.activation, COMMA_QUICK_GELU);
    assert_true(c->text.layer_norm_eps == 1e-5f);
    assert_true(c->image_mean[0] == 0.48145466f && c->image_std[2] == 0.27577711f);
    assert_null(comma_clip_merges(clip).data);
    assert_int_equal(comma_clip_n_adapters(clip), 0);
    assert_string_equal(comma_clip_name(clip), strrchr(scratch, '/') + 1);
    comma_clip_close(clip);
}

static void other_containers_give_the_same_weights(void **state)
{
    static const char *const files[] = { MICRO "openai_state_dict.pt", MICRO "openai_torchscript.pt",
                                         MICRO "open_clip_checkpoint.pt" };
    struct comma_error err = { 0 };
    struct comma_clip *hf = NULL, *clip;

    (void)state;
    if (!comma_clip_open(MICRO "hf", &hf, &err))
        fail_msg("%s", err.message);
    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
        link_golden(files[i], "pytorch_model.bin");
        clip = open_scratch();
        assert_same_weights(hf, clip);
        comma_clip_close(clip);
    }
    comma_clip_close(hf);
}

static void a_model_in_parts_is_put_together(void **state)
{
    struct comma_error err = { 0 };
    struct comma_clip *hf = NULL, *clip;

    (void)state;
    if (!comma_clip_open(MICRO "hf", &hf, &err))
        fail_msg("%s", err.message);
    /* Two files cannot hold the same name, so the second part holds other tensors. */
    link_golden(MICRO "hf_names_bf16.safetensors", "model-1.safetensors");
    link_golden(MICRO "expected.safetensors", "model-2.safetensors");
    put_text("model.safetensors.index.json",
             "{\"weight_map\":{\"logit_scale\":\"model-1.safetensors\",\"pixels\":\"model-2.safetensors\","
             "\"visual_projection.weight\":\"model-1.safetensors\"}}");
    clip = open_scratch();
    assert_same_weights(hf, clip);
    comma_clip_close(clip);
    comma_clip_close(hf);
    put_text("model.safetensors.index.json", "{\"weight_map\":{\"gone\":\"model-1.safetensors\"}}");
    assert_refused(COMMA_E_MODEL, "gone is in none of the files");
    put_text("model.safetensors.index.json", "{\"weight_map\":{\"a\":\"../model-1.safetensors\"}}");
    assert_refused(COMMA_E_MODEL, "is no file of this directory");
    put_text("model.safetensors.index.json", "{\"weight_map\":{\"a\":1}}");
    assert_refused(COMMA_E_MODEL, "weight_map must give a file");
    put_text("model.safetensors.index.json", "{}");
    assert_refused(COMMA_E_MODEL, "no CLIP ViT");
}

static void the_merges_of_tokenizer_json_are_those_of_merges_txt(void **state)
{
    char json[4096] = "{\"model\":{\"type\":\"BPE\",\"merges\":[", merges[1024] = "#version: 0.2\n";
    struct comma_clip *clip;

    (void)state;
    link_golden(MICRO "openai_names_f32.safetensors", "model.safetensors");
    for (int i = 0; i < 62; i++) {
        strcat(json, i == 0 ? "\"a b</w>\"" : ",[\"a\",\"b</w>\"]"); /* both forms are in use */
        strcat(merges, "a b</w>\n");
    }
    strcat(json, "]}}");
    put_text("tokenizer.json", json);
    clip = open_scratch();
    assert_int_equal(comma_clip_merges(clip).size, strlen(merges));
    assert_memory_equal(comma_clip_merges(clip).data, merges, strlen(merges));
    comma_clip_close(clip);
    put_text("tokenizer.json", "{\"model\":{\"type\":\"WordPiece\"}}");
    assert_refused(COMMA_E_UNSUPPORTED, "no byte-level BPE");
}

/* ---- adapters ---- */

static void put_adapter(const char *golden, const char *config)
{
    link_golden(golden, "adapter_model.safetensors");
    put_text("adapter_config.json", config);
}

static void the_tensors_tell_method_and_sizes(void **state)
{
    static const struct {
        const char *file, *method;
        size_t n_ctx, depth;
    } cases[] = {
        { TINY "comma.safetensors", "comma", 2, 3 },        { TINY "comma_depth2.safetensors", "comma", 4, 2 },
        { TINY "other/maple.safetensors", "maple", 2, 3 },  { TINY "other/ivlp.safetensors", "ivlp", 2, 3 },
        { TINY "other/vpt.safetensors", "vpt", 5, 3 },      { TINY "other/coop_end.safetensors", "coop", 4, 1 },
        { TINY "other/cocoop.safetensors", "cocoop", 4, 1 }
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct comma_error err = { 0 };
        struct comma_adapter_dir a = { 0 };

        put_adapter(cases[i].file, "{}");
        if (!comma_adapter_dir_open(scratch, &a, &err))
            fail_msg("%s", err.message);
        assert_string_equal(a.config.method, cases[i].method);
        assert_string_equal(a.config.ctx_init, "a photo of a");
        assert_int_equal(a.config.n_ctx, cases[i].n_ctx);
        assert_int_equal(a.config.prompt_depth, cases[i].depth);
        assert_int_equal(a.config.last_layer, 1);
        comma_adapter_dir_close(&a);
    }
}

static void an_adapter_config_that_contradicts_its_tensors_is_refused(void **state)
{
    static const struct {
        const char *file, *config, *words;
    } cases[] = {
        { TINY "comma.safetensors", "{\"n_ctx\":3}", "n_ctx is 3, but the tensors say 2" },
        { TINY "comma.safetensors", "{\"prompt_depth\":9}", "prompt_depth is 9, but the tensors say 3" },
        { TINY "comma.safetensors", "{\"last_layer\":0}", "last_layer must be a whole number from 1" },
        { TINY "comma.safetensors", "{\"method\":\"lora\"}", "the method lora; comma, maple" },
        { TINY "comma.safetensors", "{\"method\":\"vpt\"}", "image_encoder.VPT is missing" },
        { TINY "comma.safetensors", "{\"ctx_init\":7}", "ctx_init must be a string" },
        { TINY "other/coop_csc.safetensors", "{}", "contexts are those of 12 classes" },
        { TINY "other/coop_csc.safetensors", "{\"classnames\":[\"cat\",\"dog\"]}", "it has 2" },
        { TINY "other/coop_csc.safetensors", "{\"classnames\":[\"cat\",1]}", "classnames must be strings" },
        { TINY "other/coop_end.safetensors", "{\"class_token_position\":\"somewhere\"}", "at most 7 bytes" },
        { MICRO "expected.safetensors", "{}", "no other prompts are there" },
        { TINY "comma.safetensors", "{", "bad JSON" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct comma_error err = { 0 };
        struct comma_adapter_dir a = { 0 };

        put_adapter(cases[i].file, cases[i].config);
        assert_false(comma_adapter_dir_open(scratch, &a, &err));
        if (!strstr(err.message, cases[i].words))
            fail_msg("\"%s\" does not say \"%s\"", err.message, cases[i].words);
    }
}

/* ---- what contradicts itself ---- */

/* The golden file with one piece of its header, or of its end, replaced by another of the same length. */
static void put_changed(const char *from, const char *to)
{
    unsigned char *bytes = malloc(1 << 20), *at;
    FILE *f = fopen(MICRO "openai_names_f32.safetensors", "rb");
    size_t size;

    assert_non_null(bytes);
    assert_non_null(f);
    size = fread(bytes, 1, 1 << 20, f);
    fclose(f);
    assert_int_equal(strlen(from), strlen(to));
    at = memmem(bytes, size, from, strlen(from));
    assert_non_null(at);
    memcpy(at, to, strlen(to));
    put("model.safetensors", bytes, size);
    free(bytes);
}

static void a_wrong_tensor_is_named(void **state)
{
    static const struct {
        const char *from, *to;
        enum comma_code code;
        const char *words;
    } cases[] = {
        { "visual.ln_pre.bias", "visual.ln_pre.bixs", COMMA_E_MODEL, "visual.ln_pre.bias is missing" },
        { "\"token_embedding.weight", "\"tokem_embedding.weight", COMMA_E_MODEL, "token_embedding.weight is missing" },
        { "[64,24]", "[24,64]", COMMA_E_MODEL, "text_projection is [24, 64], but must be [64, " },
        { "[192,64]", "[64,192]", COMMA_E_MODEL,
          "visual.transformer.resblocks.0.attn.in_proj_weight is [64, 192], but must be [192, 64]" },
        { "[64,3,8,8]", "[64,6,8,4]", COMMA_E_MODEL, "visual.conv1.weight is [64, 6, 8, 4], but must be [n, 3, n, n]" },
        { "[5,64]", "[64,5]", COMMA_E_MODEL, "visual.positional_embedding is [64, 5], but must be [n, 64]" },
        { "visual.conv1.weight", "visual.conv9.weight", COMMA_E_MODEL, "no CLIP ViT" },
        { "\"visual.transformer.resblocks.0.ln_2.bias", "\"visual.transformer.resblocks.3.ln_2.bias", COMMA_E_MODEL,
          "visual.transformer.resblocks.0.ln_2.bias is missing" },
        { "logit_scale", "logit_bias_", COMMA_E_MODEL, "logit_scale is missing" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        put_changed(cases[i].from, cases[i].to);
        assert_refused(cases[i].code, cases[i].words);
    }
}

static void a_config_that_contradicts_the_tensors_is_refused(void **state)
{
    static const struct {
        const char *json;
        enum comma_code code;
        const char *words;
    } cases[] = {
        { "{\"vision_config\":{\"num_attention_heads\":1,\"hidden_size\":128}}", COMMA_E_MODEL,
          "vision_config.hidden_size is 128, but the tensors say 64" },
        { "{\"vision_config\":{\"num_attention_heads\":1,\"num_hidden_layers\":2}}", COMMA_E_MODEL,
          "vision_config.num_hidden_layers is 2, but the tensors say 1" },
        { "{\"vision_config\":{\"num_attention_heads\":3}}", COMMA_E_MODEL, "must be a divisor of the width 64" },
        { "{}", COMMA_E_MODEL, "vision_config.num_attention_heads must be" },
        { "{\"vision_config\":{\"num_attention_heads\":1,\"hidden_act\":\"relu\"}}", COMMA_E_UNSUPPORTED,
          "hidden_act is relu; quick_gelu and gelu are known" },
        { "{\"vision_config\":{\"num_attention_heads\":1,\"layer_norm_eps\":-1}}", COMMA_E_MODEL, "layer_norm_eps" },
        { "{\"vision_config\":{\"num_attention_heads\":1,\"layer_norm_eps\":1e-85}}", COMMA_E_MODEL, "layer_norm_eps" },
        { "{\"model_type\":\"siglip\"}", COMMA_E_UNSUPPORTED, "only clip is supported" },
        { "{\"vision_config\":{\"num_attention_heads\":1,\"image_size\":32},"
          "\"text_config\":{\"num_attention_heads\":1}}",
          COMMA_E_MODEL, "vision_config.image_size is 32, but the tensors say 16" },
        { "{\"vision_config\":1,\"vision_config\":1}", COMMA_E_MODEL, "the same JSON key twice" },
        { "{\"vision_config\":", COMMA_E_MODEL, "bad JSON" },
        { "[]", COMMA_E_MODEL, "not a JSON object" },
        { "", COMMA_E_MODEL, "bad JSON" },
    };

    (void)state;
    link_golden(MICRO "openai_names_f32.safetensors", "model.safetensors");
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        put_text("config.json", cases[i].json);
        assert_refused(cases[i].code, cases[i].words);
    }
}

static void config_json_says_heads_and_activation(void **state)
{
    struct comma_clip *clip;

    (void)state;
    link_golden(MICRO "openai_names_f32.safetensors", "model.safetensors");
    put_text("config.json", "{\"vision_config\":{\"num_attention_heads\":4,\"hidden_act\":\"gelu\"},"
                            "\"text_config_dict\":{\"num_attention_heads\":2,\"layer_norm_eps\":1e-6},"
                            "\"text_config\":{\"num_attention_heads\":8}}");
    clip = open_scratch();
    assert_int_equal(comma_clip_config(clip)->vision.heads, 4);
    assert_int_equal(comma_clip_config(clip)->vision.activation, COMMA_GELU);
    assert_int_equal(comma_clip_config(clip)->text.heads, 2);
    assert_int_equal(comma_clip_config(clip)->text.activation, COMMA_QUICK_GELU);
    assert_true(comma_clip_config(clip)->text.layer_norm_eps == 1e-6f);
    comma_clip_close(clip);
}

static void preprocessing_that_is_not_done_is_refused(void **state)
{
    static const struct {
        const char *json, *words;
    } cases[] = {
        { "{\"resample\":2}", "resample must be 3" },
        { "{\"do_resize\":false}", "do_resize must be true" },
        { "{\"do_center_crop\":false}", "do_center_crop must be true" },
        { "{\"size\":224}", "size must be the model's image size, 16" },
        { "{\"size\":{\"height\":16,\"width\":16}}", "as shortest_edge" },
        { "{\"crop_size\":{\"height\":16,\"width\":17}}", "crop_size must be" },
        { "{\"rescale_factor\":1}", "rescale_factor must be 1/255" },
    };
    struct comma_clip *clip;

    (void)state;
    link_golden(MICRO "openai_names_f32.safetensors", "model.safetensors");
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        put_text("preprocessor_config.json", cases[i].json);
        assert_refused(COMMA_E_UNSUPPORTED, cases[i].words);
    }
    put_text("preprocessor_config.json", "{\"image_std\":[1,0,1]}");
    assert_refused(COMMA_E_MODEL, "image_std must be three numbers");
    put_text("preprocessor_config.json", "{\"image_mean\":[0.5,0.25,0],\"image_std\":[1,2,3],\"size\":16}");
    clip = open_scratch();
    assert_true(comma_clip_config(clip)->image_mean[1] == 0.25f && comma_clip_config(clip)->image_std[2] == 3.0f);
    comma_clip_close(clip);
}

static void a_tokenizer_of_another_size_is_refused(void **state)
{
    char merges[63 * 4 + 16] = "#version: 0.2\n";
    struct comma_clip *clip;

    (void)state;
    link_golden(MICRO "openai_names_f32.safetensors", "model.safetensors");
    put_text("merges.txt", "#version: 0.2\na b\n\n");
    assert_refused(COMMA_E_MODEL, "1 merges, but the token embedding of 576 rows");
    for (int i = 0; i < 62; i++)
        strcat(merges, "a b\n");
    put_text("merges.txt", merges);
    clip = open_scratch();
    assert_int_equal(comma_clip_merges(clip).size, strlen(merges));
    comma_clip_close(clip);
    put_text("vocab.json", "{\"<|startoftext|>\": 574, \"<|endoftext|>\" : 576}");
    assert_refused(COMMA_E_MODEL, "\"<|endoftext|>\" must have the id 575");
    put_text("vocab.json", "{\"<|endoftext|>\":575}");
    assert_refused(COMMA_E_MODEL, "\"<|startoftext|>\" must have the id 574");
    put_text("vocab.json", "{\"<|startoftext|>\": 574, \"<|endoftext|>\" :");
    assert_refused(COMMA_E_MODEL, "\"<|endoftext|>\" must have the id 575");
    put_text("vocab.json", "{\"<|startoftext|>\": 574, \"<|endoftext|>\" : 575}");
    comma_clip_close(open_scratch());
}

static void what_is_no_model_directory_is_refused(void **state)
{
    struct comma_error err = { 0 };
    struct comma_clip *clip = NULL;

    (void)state;
    assert_refused(COMMA_E_MODEL, "no model.safetensors or pytorch_model.bin there");
    assert_false(comma_clip_open("/nowhere/at/all", &clip, &err));
    assert_int_equal(err.code, COMMA_E_IO);
    assert_false(comma_clip_open(MICRO "openai_names_f32.safetensors", &clip, &err));
    assert_non_null(strstr(err.message, "comma convert"));
}

/* ---- the embedded default ---- */

static void the_embedded_model_equals_its_directory(void **state)
{
    struct comma_error err = { 0 };
    struct comma_clip *embedded = NULL, *dir = NULL;

    (void)state;
    if (!comma_clip_open_embedded(&embedded, &err) || !comma_clip_open(COMMA_SOURCE_ROOT "/models/emoji", &dir, &err))
        fail_msg("%s", err.message);
    assert_same_weights(embedded, dir);
    assert_string_equal(comma_clip_name(embedded), "emoji");
    assert_string_equal(comma_clip_name(dir), "emoji");
    assert_int_equal(comma_clip_config(embedded)->vision.width, 192);
    assert_int_equal(comma_clip_config(embedded)->vision.heads, 3);
    assert_int_equal(comma_clip_config(embedded)->context_length, 32);
    assert_int_equal(comma_clip_config(embedded)->image_size, 64);
    assert_int_equal((uintptr_t)comma_clip_merges(embedded).data % 64, 0);
    assert_int_equal(comma_clip_merges(embedded).size, comma_clip_merges(dir).size);
    assert_memory_equal(comma_clip_merges(embedded).data, comma_clip_merges(dir).data, comma_clip_merges(dir).size);
    comma_clip_close(embedded);
    comma_clip_close(dir);
}

static void the_embedded_model_brings_its_adapter(void **state)
{
    struct comma_error err = { 0 };
    struct comma_clip *clip = NULL;
    struct comma_adapter_dir a = { 0 };

    (void)state;
    if (!comma_clip_open_embedded(&clip, &err))
        fail_msg("%s", err.message);
    assert_int_equal(comma_clip_n_adapters(clip), 1);
    assert_string_equal(comma_clip_adapter_name(clip, 0), "groups");
    if (!comma_clip_adapter_open(clip, 0, &a, &err))
        fail_msg("%s", err.message);
    assert_string_equal(a.config.method, "comma");
    assert_string_equal(a.config.ctx_init, "a photo of a");
    assert_int_equal(a.config.n_ctx, 2);
    assert_int_equal(a.config.prompt_depth, 3);
    assert_int_equal(a.config.last_layer, 1);
    comma_adapter_dir_close(&a);
    comma_clip_close(clip);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_spelling_and_dtype_gives_the_same_weights, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(sizes_come_from_the_tensors, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(other_containers_give_the_same_weights, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(a_model_in_parts_is_put_together, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(the_merges_of_tokenizer_json_are_those_of_merges_txt, make_scratch,
                                        remove_scratch),
        cmocka_unit_test_setup_teardown(the_tensors_tell_method_and_sizes, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(an_adapter_config_that_contradicts_its_tensors_is_refused, make_scratch,
                                        remove_scratch),
        cmocka_unit_test_setup_teardown(a_wrong_tensor_is_named, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(a_config_that_contradicts_the_tensors_is_refused, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(config_json_says_heads_and_activation, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(preprocessing_that_is_not_done_is_refused, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(a_tokenizer_of_another_size_is_refused, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(what_is_no_model_directory_is_refused, make_scratch, remove_scratch),
        cmocka_unit_test(the_embedded_model_equals_its_directory),
        cmocka_unit_test(the_embedded_model_brings_its_adapter),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
