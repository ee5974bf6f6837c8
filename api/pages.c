/* SPDX-License-Identifier: MIT */
/* pages.c - see pages.h. The assembler puts the files into the binary; it finds them on the include path. */
#include "api/pages.h"

#include "page_inputs.h" /* made by meson: changes when one of the files does, so that this is built again */

/* symbol .. symbol_end are the bytes of file. */
#define EMBED(symbol, file)                                                                                            \
    __asm__(".pushsection .rodata\n"                                                                                   \
            ".globl " #symbol "\n"                                                                                     \
            ".hidden " #symbol "\n" #symbol ":\n"                                                                      \
            ".incbin \"" file "\"\n"                                                                                   \
            ".globl " #symbol "_end\n"                                                                                 \
            ".hidden " #symbol "_end\n" #symbol "_end:\n"                                                              \
            ".byte 0\n"                                                                                                \
            ".popsection\n");                                                                                          \
    extern const char symbol[], symbol##_end[]

EMBED(comma_page_openapi, "openapi.yaml");
EMBED(comma_page_html, "playground.html");
EMBED(comma_page_js, "playground.js");
EMBED(comma_page_css, "playground.css");

#define BODY(symbol) ((struct comma_text){ symbol, (size_t)(symbol##_end - symbol) })

struct comma_page comma_page_of(enum comma_route route)
{
    switch (route) {
    case COMMA_ROUTE_OPENAPI:
        return (struct comma_page){ BODY(comma_page_openapi), "application/yaml" };
    case COMMA_ROUTE_PLAYGROUND:
        return (struct comma_page){ BODY(comma_page_html), "text/html; charset=utf-8" };
    case COMMA_ROUTE_PLAYGROUND_JS:
        return (struct comma_page){ BODY(comma_page_js), "text/javascript; charset=utf-8" };
    case COMMA_ROUTE_PLAYGROUND_CSS:
        return (struct comma_page){ BODY(comma_page_css), "text/css; charset=utf-8" };
    default:
        return (struct comma_page){ { "", 0 }, "" };
    }
}

const char *comma_page_csp(void)
{
    return "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
           "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
}
