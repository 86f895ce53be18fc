/* SPDX-License-Identifier: MIT */
/* What a failure usually comes from: two tables, from signs to causes and from causes to words. */
#include "tools/doctor.h"

#include <fnmatch.h>
#include <string.h>

#define FETCH "Fetch the file again, and compare its size and checksum with those of the source."
#define PACK_AGAIN "Get it from its author again, or pack the original adapter again."

typedef enum cause_number {
    MISSING,
    GIT_LFS,
    TEXT_MODE,
    EMPTY_FILE,
    WEB_PAGE,
    PICKLE,
    GGUF,
    GZIP,
    NO_FILE,
    OTHER_KIND,
    CUT_SHORT,
    PAGE,
    INDEX,
    DATA,
    EARLIER_INDEX,
    HIDDEN,
    WRONG_ID,
    MALFORMED,
    NEWER,
    BIG,
    NO_SCALE,
    NO_CONFIG,
    NO_BASE,
    NO_PART,
    ELSEWHERE,
    EMPTY_TENSOR,
    BAD_CONFIG,
    MIXED,
    UNLIKE,
    SHARDS,
    BAD_MANIFEST,
    BAD_LOCK,
    NAMED,
    DRIFT,
    MISFIT,
    UNTRUSTED,
    WRITTEN,
    SYSTEM,
    MEMORY,
    UNCLEAR,
} cause_number;

static const cause causes[] = {
    [MISSING] = {.name = "missing",
                 .level = LEVEL_BROKEN,
                 .meaning = "Nothing has that name here. The name may be misspelt, the folder another one than you think, or the "
                            "file not fetched yet; a symbolic link may lead to nothing.",
                 .advice = "Look at what is there, and from which folder you ask."},
    [GIT_LFS] = {.name = "git-lfs",
                 .level = LEVEL_BROKEN,
                 .meaning = "This small text stands in for the file: Git keeps large files elsewhere, and it was cloned or "
                            "downloaded without them.",
                 .advice = "Fetch the file itself:",
                 .tool = TOOL_LFS},
    [TEXT_MODE] = {.name = "text-mode",
                   .level = LEVEL_BROKEN,
                   .meaning = "Something took the file for text and changed its line ends or the eighth bit of its bytes: FTP in "
                              "text mode, Git with autocrlf, an editor. What is lost that way cannot be put back.",
                   .advice = "Fetch the file again as binary (FTP: `binary`; Git: `*.lora binary` in .gitattributes)."},
    [EMPTY_FILE] = {.name = "empty",
                    .level = LEVEL_BROKEN,
                    .meaning = "There is not one byte in it. A download failed at its start, a disk was full, or the program "
                               "that made the file was stopped.",
                    .advice = FETCH},
    [WEB_PAGE] = {.name = "web-page",
                  .level = LEVEL_BROKEN,
                  .meaning = "A server sent a page in place of the file, and that was saved under the file's name: an error, a "
                             "log-in, or the page about the file.",
                  .advice = "Open it in a text editor to see what the server said. Fetch the file itself, logged in where that "
                            "is needed."},
    [PICKLE] = {.name = "pickle",
                .level = LEVEL_BROKEN,
                .meaning = "PyTorch's old format is a program that runs when it is loaded, and can do anything to your machine. "
                           "It is never opened here, so nothing was looked at.",
                .advice =
                    "Ask for the adapter or model as safetensors. If you trust its author, load it with PyTorch, best where "
                    "it can do no harm, and save it again with safe_serialization=True."},
    [GGUF] = {.name = "gguf",
              .level = LEVEL_BROKEN,
              .meaning = "This is a model or adapter for llama.cpp, which cannot be read here.",
              .advice = "Get the adapter or model as safetensors, which GGUF files are made from."},
    [GZIP] = {.name = "gzip",
              .level = LEVEL_BROKEN,
              .meaning = "The file is packed with gzip, as some servers and archives do.",
              .advice = "Unpack it, and ask again about what comes out:",
              .tool = TOOL_GUNZIP},
    [NO_FILE] = {.name = "not-a-file",
                 .level = LEVEL_BROKEN,
                 .meaning = "This is a pipe, a socket or a device. Only files and folders can be looked at.",
                 .advice = "Save what comes from it into a file first."},
    [OTHER_KIND] = {.name = "other-kind",
                    .level = LEVEL_BROKEN,
                    .meaning = "It is none of what lorapack reads: .lora files, PEFT adapters, safetensors files, base models, "
                               "manifests. It may be another file than you think, or have lost its first bytes.",
                    .advice = "Look at where it comes from."},
    [CUT_SHORT] = {.name = "cut-short",
                   .level = LEVEL_BROKEN,
                   .meaning = "The end of the file is missing. Nearly always a download or a copy broke off, or the disk was "
                              "full; or it is still being written.",
                   .advice =
                       "Fetch the file again, or the rest of it (`curl -C - -O URL`), and compare its size with that of the "
                       "source."},
    [PAGE] = {.name = "damaged-page",
              .level = LEVEL_BROKEN,
              .meaning = "The first pages of the file, which lead to all the rest, are not as they were written: a damaged block "
                         "of the disk, a write that was interrupted, or somebody changed bytes.",
              .advice = FETCH},
    [INDEX] = {.name = "damaged-index",
               .level = LEVEL_BROKEN,
               .meaning = "The index, which says what lies where, is not as it was written: a damaged block of a disk, a faulty "
                          "transfer, or somebody changed bytes. No name or number in it can be trusted.",
               .advice = FETCH},
    [DATA] = {.name = "damaged-data",
              .level = LEVEL_BROKEN,
              .meaning = "The numbers of this tensor are not those that were written, while what the file says of them is: a "
                         "damaged block of a disk, a faulty transfer, or somebody changed them.",
              .advice = FETCH,
              .is_data = true,
              .is_local = true},
    [EARLIER_INDEX] = {.name = "damaged-history",
                       .level = LEVEL_BROKEN,
                       .meaning = "A state that the file had before is damaged. What it holds now is another matter.",
                       .advice = FETCH,
                       .is_local = true},
    [HIDDEN] = {.name = "bytes-between",
                .level = LEVEL_BROKEN,
                .meaning = "There are bytes where the format has nothing but zeros: a damaged block of a disk, a writer with a "
                           "bug, or something that is hidden there. No adapter uses them.",
                .advice = FETCH,
                .is_local = true},
    [WRONG_ID] = {.name = "wrong-id",
                  .level = LEVEL_BROKEN,
                  .meaning =
                      "The adapter says that it is one which it is not. Its digests are right, so this is no accident of a "
                      "transfer: a tool with a bug wrote it, or somebody changed the adapter under another one's name.",
                  .advice = "Do not use it. " PACK_AGAIN},
    [MALFORMED] = {.name = "malformed",
                   .level = LEVEL_BROKEN,
                   .meaning = "It breaks a rule of its format, and no transfer does that: a tool with a bug wrote it, or it was "
                              "made to harm those who read it.",
                   .advice = "Do not use it with programs that check less. " PACK_AGAIN},
    [NEWER] = {.name = "newer",
               .level = LEVEL_BROKEN,
               .meaning = "As far as can be told nothing is wrong with it: it was written by a newer version, and has something "
                          "that this one does not know.",
               .advice = "Use a newer lorapack, or ask for the file as the older version wrote it (lorapack version).",
               .is_local = true},
    [BIG] = {.name = "beyond-limit",
             .level = LEVEL_BROKEN,
             .meaning =
                 "It asks for more than a documented limit, which real files stay far below: a tool with a bug, damage, or "
                 "a file made to exhaust its reader.",
             .advice = "Do not use it. " PACK_AGAIN},
    [NO_SCALE] = {.name = "no-scale",
                  .level = LEVEL_SUSPICIOUS,
                  .meaning = "The file does not say how strongly the adapter acts (its alpha); PEFT keeps that in "
                             "adapter_config.json, which is not beside it. Nothing else is known to be wrong.",
                  .advice = "Get adapter_config.json too; or put the alpha of the training in place of ALPHA.",
                  .tool = TOOL_ALPHA},
    [NO_CONFIG] = {.name = "no-config",
                   .level = LEVEL_BROKEN,
                   .meaning = "Half of the adapter is missing: adapter_config.json, which says how strongly it acts. Somebody "
                              "fetched or copied the other file alone.",
                   .advice = "Get adapter_config.json too; or put the alpha of the training in place of ALPHA.",
                   .tool = TOOL_ALPHA},
    [NO_BASE] = {.name = "needs-base",
                 .level = LEVEL_SUSPICIOUS,
                 .meaning = "The adapter changes experts, and which of its tensors is for which shows only beside the names and "
                            "shapes of the base model. Nothing is known to be wrong.",
                 .advice = "Put the base model in place of BASE.",
                 .tool = TOOL_BASE},
    [NO_PART] = {.name = "part-missing",
                 .level = LEVEL_BROKEN,
                 .meaning = "It takes several files, and one that is named is not there: a download that broke off or left files "
                            "out, a link into a cache that was cleaned, or a file that was renamed.",
                 .advice = "Fetch what is missing, and leave the names as they are."},
    [ELSEWHERE] = {.name = "elsewhere",
                   .level = LEVEL_BROKEN,
                   .meaning =
                       "There is no adapter in this folder itself, but in folders in it: a trainer's checkpoints, or adapters "
                       "with names.",
                   .advice = "Ask about one of those folders."},
    [EMPTY_TENSOR] = {.name = "empty-tensor",
                      .level = LEVEL_BROKEN,
                      .meaning = "A tensor has no numbers. The adapter was saved while its weights were spread over several "
                                 "machines (DeepSpeed ZeRO-3, FSDP), and not gathered first: they are not in the file.",
                      .advice = "Save it again from the training, with gathered weights."},
    [BAD_CONFIG] = {.name = "bad-config",
                    .level = LEVEL_BROKEN,
                    .meaning = "The settings are not as PEFT or transformers write them: edited by hand, cut short, or by a tool "
                               "with a bug. The tensors were not looked at.",
                    .advice = "Get the file again from the source, or set right what is said above."},
    [MIXED] = {.name = "does-not-go-together",
               .level = LEVEL_BROKEN,
               .meaning = "The config and the tensors do not say the same: files of two trainings in one folder, a save that was "
                          "interrupted, or settings that were edited later.",
               .advice = "Get both files again from one source."},
    [UNLIKE] = {.name = "cannot-be-used",
                .level = LEVEL_BROKEN,
                .meaning = "It may be whole, but it is of a kind that would come out wrong here, and so is refused.",
                .advice = "The reason above says what else would do."},
    [SHARDS] = {.name = "shards-disagree",
                .level = LEVEL_BROKEN,
                .meaning =
                    "The files of the model and the list of what is in which do not say the same: files of two versions in "
                    "one folder, or a download that broke off between them.",
                .advice = "Fetch all files of the model again, from one revision."},
    [BAD_MANIFEST] = {.name = "bad-manifest",
                      .level = LEVEL_BROKEN,
                      .meaning = "The manifest says something that it may not, at the line and column above.",
                      .advice = "Set it right there; spec/manifest.md has all that is allowed."},
    [BAD_LOCK] = {.name = "bad-lock",
                  .level = LEVEL_BROKEN,
                  .meaning = "The lock is not as lorapack writes it: edited by hand, merged by Git, or cut short.",
                  .advice = "Take it from version control again. When what is there now is what you want, write it anew.",
                  .tool = TOOL_LOCK},
    [NAMED] = {.name = "named-file",
               .level = LEVEL_BROKEN,
               .meaning = "The manifest is well written, but a file that it names is not as it should be.",
               .advice = "Ask about that file by itself:"},
    [DRIFT] = {.name = "drift",
               .level = LEVEL_BROKEN,
               .meaning = "The lock pins base and adapters to the bit, and something is another one now: it was fetched again, "
                          "trained again or changed.",
               .advice = "Put back what was locked. When what is there now is what you want, accept it.",
               .tool = TOOL_LOCK},
    [MISFIT] = {.name = "does-not-fit",
                .level = LEVEL_BROKEN,
                .meaning = "Both are as they should be by themselves, but do not belong together: an adapter that was trained on "
                           "another base, or another version of it.",
                .advice = "Look at which base the adapter was made for (lorapack inspect)."},
    [UNTRUSTED] = {.name = "untrusted",
                   .level = LEVEL_BROKEN,
                   .meaning =
                       "It may be whole, but is not from whom it must be: the manifest names the keys that adapters have to be "
                       "signed by.",
                   .advice = "Get the adapter from who signs it, or ask them to sign it (lorapack sign)."},
    [WRITTEN] = {.name = "being-written",
                 .level = LEVEL_BROKEN,
                 .meaning = "Another program changed the file while it was looked at.",
                 .advice = "Ask again when that program is done."},
    [SYSTEM] = {.name = "system",
                .level = LEVEL_BROKEN,
                .meaning = "The operating system did not give us the file: a missing permission, a disk or network that fails. "
                           "Nothing is known of the file itself.",
                .advice = "Set that right and ask again. Errors of a disk also show in dmesg."},
    [MEMORY] = {.name = "memory",
                .level = LEVEL_BROKEN,
                .meaning = "There is too little memory to look at it.",
                .advice = "Ask again on a machine with more."},
    [UNCLEAR] = {.name = "unclear", .level = LEVEL_BROKEN, .meaning = "What that comes from is not clear."},
};

const cause cause_recovered =
    {.name = "recovered",
     .level = LEVEL_SUSPICIOUS,
     .meaning = "The file has two places that lead to its state, and one is damaged or leads beyond the end: an "
                "append or a download broke off, a block of the disk is damaged, or another program is writing "
                "just now. The other one holds, and what it shows is whole; a newer state may be lost.",
     .advice = "Look again in a moment. If it stays so, fetch the file again."};
const cause cause_after_end = {.name = "bytes-after-end",
                               .level = LEVEL_SUSPICIOUS,
                               .meaning = "An append was interrupted, or is under way. Those bytes are ignored."};
const cause cause_ignored = {.name = "ignored-sections",
                             .level = LEVEL_SUSPICIOUS,
                             .meaning = "A newer version wrote something that older ones may skip. Packing leaves it out."};
const cause cause_unsigned = {.name = "unsigned",
                              .level = LEVEL_NOTE,
                              .meaning = "Digests show that it is as it was written, not who wrote it."};
const cause cause_false_signature = {.name = "false-signature",
                                     .level = LEVEL_SUSPICIOUS,
                                     .meaning =
                                         "The adapter was changed after somebody signed it, or the signature was made up. It "
                                         "counts as not signed.",
                                     .advice = "Ask who is said to have signed it; lorapack verify --key checks who did."};
const cause cause_left_out = {.name = "left-out", .level = LEVEL_NOTE, .meaning = "It was read in a special way."};
const cause cause_changing = {.name = "being-written",
                              .level = LEVEL_SUSPICIOUS,
                              .meaning = "Another program is writing to it, so this may be wrong by now.",
                              .advice = "Ask again when that program is done."};
const cause cause_earlier = {.name = "damaged-history",
                             .level = LEVEL_SUSPICIOUS,
                             .meaning = "A state that the file had before is damaged. The current one does not need it."};
const cause cause_wrong_name = {.name = "wrong-name",
                                .level = LEVEL_BROKEN,
                                .meaning = "The file has another format than its name says: somebody renamed it.",
                                .advice = "Rename it to end in .safetensors, and ask again."};
const cause cause_quantised = {.name = "quantised",
                               .level = LEVEL_SUSPICIOUS,
                               .meaning = "No adapter can be merged into it here.",
                               .advice = "Get the model in F32, F16 or BF16."};
const cause cause_drift = {.name = "drift",
                           .level = LEVEL_BROKEN,
                           .meaning = "The lock pins base and adapters to the bit, and something is another one now.",
                           .advice = "Put back what was locked. When what is there now is what you want, accept it:",
                           .tool = TOOL_LOCK};
const cause cause_no_manifest = {.name = "part-missing",
                                 .level = LEVEL_SUSPICIOUS,
                                 .meaning = "A lock pins what a manifest names, and is only read beside it.",
                                 .advice = "Put the manifest beside its lock, or the lock away."};

#define IN(what) (1u << SUBJECT_##what)
#define PARTS (IN(PEFT) | IN(SAFETENSORS))
#define KIT (IN(MANIFEST) | IN(LOCK))

/* Signs of a cause; what is not said does not matter. */
typedef struct sign {
    unsigned subjects;     /* bits */
    lorafmt_status status; /* OK = any */
    lorafmt_hint hint;
    const char *file, *field; /* fnmatch() patterns */
    const char *words;        /* in the text */
    cause_number cause;
} sign;

/* The first that matches counts. */
static const sign signs[] = {
    /* whatever was expected, this is something else */
    {.words = "Git-LFS pointer", .cause = GIT_LFS},
    {.words = "text mode", .cause = TEXT_MODE},
    {.words = "an empty file", .cause = EMPTY_FILE},
    {.words = "a web page", .cause = WEB_PAGE},
    {.words = "an XML document", .cause = WEB_PAGE},
    {.words = "pickle", .cause = PICKLE},
    {.words = "GGUF", .cause = GGUF},
    {.words = "gzip data", .cause = GZIP},
    {.words = "must be a regular file", .cause = NO_FILE},

    /* the way to the file */
    {.subjects = IN(NOTHING), .cause = MISSING},
    {.status = LORAFMT_IO, .cause = SYSTEM},
    {.status = LORAFMT_NO_MEMORY, .cause = MEMORY},
    {.status = LORAFMT_UNTRUSTED, .cause = UNTRUSTED},
    {.words = "while being read", .cause = WRITTEN},

    /* .lora */
    {.subjects = IN(LORA), .status = LORAFMT_CORRUPT, .field = "header", .cause = CUT_SHORT},
    {.subjects = IN(LORA), .field = "root\\[*].file_end", .words = "truncated", .cause = CUT_SHORT},
    {.subjects = IN(LORA), .field = "header.crc32", .cause = PAGE},
    {.subjects = IN(LORA), .field = "root", .cause = PAGE},
    {.subjects = IN(LORA), .field = "root\\[*].crc32", .cause = PAGE},
    {.subjects = IN(LORA), .field = "root\\[*].magic", .cause = PAGE},
    {.subjects = IN(LORA), .field = "root\\[*].index_sha256", .cause = INDEX},
    {.subjects = IN(LORA), .field = "history\\[*].index_sha256", .cause = EARLIER_INDEX},
    {.subjects = IN(LORA), .field = "adapter\\[*].adapter_id", .cause = WRONG_ID},
    {.subjects = IN(LORA), .field = "tensor\\[*]*", .words = "digest", .cause = DATA},
    {.subjects = IN(LORA), .field = "tensor\\[*]", .words = "zlib stream", .cause = DATA},
    {.subjects = IN(LORA), .field = "tensor\\[*]", .words = "streams", .cause = DATA},
    {.subjects = IN(LORA), .field = "tensor\\[*]", .words = "block_log2", .cause = DATA},
    {.subjects = IN(LORA), .field = "tensor\\[*].stored_size", .words = "add up", .cause = DATA},
    {.subjects = IN(LORA), .field = "tensor\\[*]", .words = "reserved bytes", .cause = DATA},
    {.subjects = IN(LORA), .field = "header.reserved", .cause = HIDDEN},
    {.subjects = IN(LORA), .field = "root\\[*].reserved", .cause = HIDDEN},
    {.subjects = IN(LORA), .words = "padding before it", .cause = HIDDEN},
    {.subjects = IN(LORA), .words = "a gap before it", .cause = HIDDEN},

    /* safetensors, PEFT, models */
    {.words = "cut short", .cause = CUT_SHORT},
    {.status = LORAFMT_CORRUPT, .field = "header_size", .cause = CUT_SHORT},
    {.words = "belong to no tensor", .cause = HIDDEN},
    {.words = "sharded training", .cause = EMPTY_TENSOR},
    {.subjects = PARTS, .status = LORAFMT_NOT_FOUND, .hint = LORAFMT_HINT_ALPHA, .cause = NO_CONFIG},
    {.hint = LORAFMT_HINT_ALPHA, .cause = NO_SCALE},
    {.hint = LORAFMT_HINT_BASE, .cause = NO_BASE},
    {.words = "in its subdirectories", .cause = ELSEWHERE},
    {.subjects = IN(OTHER), .status = LORAFMT_NOT_FOUND, .cause = OTHER_KIND},
    {.words = "named by", .status = LORAFMT_NOT_FOUND, .cause = NO_PART},
    {.words = "without an index", .cause = NO_PART},
    {.words = "one shard of several", .cause = NO_PART},
    {.subjects = PARTS, .words = "is not known", .status = LORAFMT_UNSUPPORTED, .cause = NEWER},
    {.subjects = IN(MODEL), .words = "is not known", .status = LORAFMT_UNSUPPORTED, .cause = NEWER},
    {.subjects = PARTS | IN(MODEL), .status = LORAFMT_CORRUPT, .file = "*config.json", .cause = BAD_CONFIG},
    {.subjects = PARTS, .status = LORAFMT_CORRUPT, .cause = MIXED},
    {.subjects = IN(MODEL), .status = LORAFMT_CORRUPT, .words = "says that it is in", .cause = SHARDS},
    {.subjects = IN(MODEL), .status = LORAFMT_CORRUPT, .words = "not named by", .cause = SHARDS},
    {.subjects = IN(MODEL), .status = LORAFMT_CORRUPT, .words = "is both in", .cause = SHARDS},

    /* manifests and what they name */
    {.hint = LORAFMT_HINT_LOCK, .cause = DRIFT},
    {.subjects = KIT, .file = "*.lock*", .cause = BAD_LOCK},
    {.subjects = KIT, .status = LORAFMT_UNSUPPORTED, .field = "version", .cause = NEWER},
    {.subjects = KIT, .file = "*.y*ml*", .status = LORAFMT_CORRUPT, .cause = BAD_MANIFEST},
    {.subjects = KIT, .file = "*.y*ml*", .status = LORAFMT_LIMIT, .cause = BAD_MANIFEST},
    {.subjects = KIT, .status = LORAFMT_MISUSE, .cause = BAD_MANIFEST},
    {.subjects = KIT, .status = LORAFMT_CORRUPT, .cause = NAMED},
    {.subjects = KIT, .status = LORAFMT_UNSUPPORTED, .cause = NAMED},
    {.subjects = KIT, .status = LORAFMT_NOT_LORAFMT, .cause = NAMED},

    /* what is left, by status */
    {.status = LORAFMT_NOT_LORAFMT, .cause = OTHER_KIND},
    {.subjects = IN(LORA), .status = LORAFMT_UNSUPPORTED, .cause = NEWER},
    {.status = LORAFMT_UNSUPPORTED, .cause = UNLIKE},
    {.status = LORAFMT_CORRUPT, .cause = MALFORMED},
    {.status = LORAFMT_LIMIT, .cause = BIG},
    {.status = LORAFMT_NOT_FOUND, .cause = NO_PART},
    {.status = LORAFMT_MISMATCH, .cause = MISFIT},
};

static bool matches(const sign *s, subject what, const lorafmt_error *err)
{
    return (!s->subjects || (s->subjects >> what & 1)) && (!s->status || s->status == err->status) &&
           (!s->hint || s->hint == err->hint) && (!s->file || !fnmatch(s->file, err->file, 0)) &&
           (!s->field || !fnmatch(s->field, err->field, 0)) && (!s->words || strstr(err->text, s->words));
}

const cause *cause_of(subject what, const lorafmt_error *err)
{
    for (size_t i = 0; i < sizeof signs / sizeof signs[0]; i++)
        if (matches(&signs[i], what, err))
            return &causes[signs[i].cause];
    return &causes[UNCLEAR];
}
