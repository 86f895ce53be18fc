/* SPDX-License-Identifier: MIT */
/* Adapters may bring a tokenizer. */
#ifndef TOOLS_TOKENIZER_H
#define TOOLS_TOKENIZER_H

/*
 * Adapters that added tokens ship a tokenizer of their own. A merged model keeps the base's files; say on stderr which of the
 * adapter's differ from them. Quiet when either is not a directory.
 */
void tokenizer_compare(const char *base, const char *adapter);

#endif
