/* SPDX-License-Identifier: MIT */
#include "tools/place.h"

#include <string.h>

#define MOST_DIGITS 18

static bool is_number(span s)
{
    return s.length > 0 && s.length <= MOST_DIGITS && strspn(s.text, "0123456789") >= s.length;
}

static uint64_t number_of(span s)
{
    uint64_t n = 0;

    for (size_t i = 0; i < s.length; i++)
        n = n * 10 + (uint64_t)(s.text[i] - '0');
    return n;
}

static span component(const char *text)
{
    return (span){text, strcspn(text, ".")};
}

/* The component that ends at `end`, in a text that starts at `start`. */
static span last_component(const char *start, const char *end)
{
    const char *from = end;

    while (from > start && from[-1] != '.')
        from--;
    return (span){from, (size_t)(end - from)};
}

/* The first component that is a number and has a module behind it, or NULL: "proj.0.weight" is no layer. */
static const char *find_layer(const char *target)
{
    const char *at = target;

    for (const char *dot; (dot = strchr(at, '.')); at = dot + 1)
        if (is_number(component(at)) && strchr(dot + 1, '.'))
            return at;
    return NULL;
}

static span module_of(const char *from, const char *target)
{
    const char *end = target + strlen(target);
    const span parameter = last_component(from, end);
    const bool weight = !strcmp(parameter.text, "weight") && parameter.text > from;
    span module = weight ? last_component(from, parameter.text - 1) : parameter;

    if (!weight && module.text > from)
        module = last_component(from, module.text - 1);
    if (is_number(module) && module.text > from)
        module = last_component(from, module.text - 1);
    return (span){module.text, (size_t)((weight ? parameter.text - 1 : end) - module.text)};
}

place place_of(const char *target)
{
    const char *layer = find_layer(target), *from = target;
    place p = {.has_layer = layer != NULL, .stack = {target, 0}};

    if (layer) {
        const span number = component(layer);
        p.layer = number_of(number);
        p.stack.length = layer > target ? (size_t)(layer - target) - 1 : 0;
        from = layer + number.length + 1;
    }
    p.module = module_of(from, target);
    p.path = (span){from, (size_t)(p.module.text + p.module.length - from)};
    return p;
}

int span_compare(span a, span b)
{
    const size_t shorter = a.length < b.length ? a.length : b.length;
    const int order = memcmp(a.text, b.text, shorter);

    return order ? order : (a.length > b.length) - (a.length < b.length);
}

/* The next byte of a path as path_text() has it, 0 at its end; moves *at past what it stands for. */
static char next_byte(span path, const char **at)
{
    const char *end = path.text + path.length;
    const bool starts = *at == path.text || (*at)[-1] == '.';

    if (*at == end)
        return '\0';
    if (starts && is_number(component(*at))) {
        *at += component(*at).length;
        return '*';
    }
    return *(*at)++;
}

int path_compare(span a, span b)
{
    const char *at_a = a.text, *at_b = b.text;
    unsigned char left, right;

    do {
        left = (unsigned char)next_byte(a, &at_a);
        right = (unsigned char)next_byte(b, &at_b);
    } while (left == right && left);
    return (left > right) - (left < right);
}

const char *path_text(span path, char buf[PATH_TEXT_SIZE])
{
    const char *at = path.text;
    size_t n = 0;

    while (n < PATH_TEXT_SIZE - 1 && (buf[n] = next_byte(path, &at)))
        n++;
    buf[n] = '\0';
    return buf;
}
