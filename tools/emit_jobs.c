/* SPDX-License-Identifier: MIT */
#include "tools/emit_jobs.h"

#include "tools/text.h"

#include <stdbool.h>

/* --- words of others' languages --- */

const char *job_name_refused(const char *manifest)
{
    if (manifest[0] == '-')
        return "begins with a dash";
    for (const char *s = manifest; *s;) {
        uint32_t code;
        const size_t n = utf8_decode(s, &code);
        if (!n)
            return "is not UTF-8";
        if (code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x2028 || code == 0x2029 || code >= 0xfffe)
            return "has a control character";
        s += n;
    }
    return NULL;
}

/* One word of a shell, where `$` is written twice for make and Kubernetes, which look for their own variables first. */
static void put_word(FILE *to, const char *text, bool doubled)
{
    fputc('\'', to);
    for (; *text; text++)
        if (*text == '\'')
            fputs("'\\''", to);
        else if (*text == '$' && doubled)
            fputs("$$", to);
        else
            fputc(*text, to);
    fputc('\'', to);
}

/* A YAML string in double quotes. */
static void put_quoted(FILE *to, const char *text)
{
    fputc('"', to);
    for (; *text; text++)
        fprintf(to, *text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
    fputc('"', to);
}

/* --- make --- */

static void put_rule(FILE *to, const job_list *list, const char *scenario)
{
    fprintf(to, "\n%s:", scenario);
    for (unsigned part = 1; part <= list->parts; part++)
        fprintf(to, " %s/%u", scenario, part);
    for (unsigned part = 1; part <= list->parts; part++) {
        fprintf(to, "\n%s/%u:\n\t$(LORAPACK) build ", scenario, part);
        put_word(to, list->manifest, true);
        fprintf(to, " %s --part %u/%u", scenario, part, list->parts);
    }
    fputc('\n', to);
}

/* A goal with a slash has no name that a scenario may have. */
static void write_make(FILE *to, const job_list *list)
{
    fputs("# Written by lorapack emit. Run it where the manifest lies: make -j2 -f THIS-FILE [SCENARIO...] [LORAPACK=PROGRAM]\n"
          "LORAPACK = lorapack\n\nscenarios/all:",
          to);
    for (size_t i = 0; i < list->n_scenarios; i++)
        fprintf(to, " %s", list->scenarios[i]);
    fputs("\n.PHONY: scenarios/all", to);
    for (size_t i = 0; i < list->n_scenarios; i++) {
        fprintf(to, " %s", list->scenarios[i]);
        for (unsigned part = 1; part <= list->parts; part++)
            fprintf(to, " %s/%u", list->scenarios[i], part);
    }
    fputc('\n', to);
    for (size_t i = 0; i < list->n_scenarios; i++)
        put_rule(to, list, list->scenarios[i]);
}

/* --- jobs with a number --- */

/* What a task does: of the list of all, the one that has the job's number. */
static void put_script(FILE *to, const job_list *list, const char *indent, const char *program, const char *number, bool doubled)
{
    fprintf(to, "%sset -eu\n%sset --", indent, indent);
    for (size_t i = 0; i < list->n_scenarios; i++)
        for (unsigned part = 1; part <= list->parts; part++)
            fprintf(to, " \\\n%s    '%s %u/%u'", indent, list->scenarios[i], part, list->parts);
    fprintf(to, "\n%sshift \"$%s\"\n%sexec %s build ", indent, number, indent, program);
    put_word(to, list->manifest, doubled);
    fputs(" \"${1% *}\" --part \"${1#* }\"\n", to);
}

static size_t n_tasks(const job_list *list)
{
    return list->n_scenarios * list->parts;
}

static void write_slurm(FILE *to, const job_list *list)
{
    fprintf(to,
            "#!/bin/sh\n"
            "# Written by lorapack emit. Submit it where the manifest lies: sbatch THIS-FILE [PROGRAM]\n"
            "#SBATCH --job-name=lorapack\n"
            "#SBATCH --array=0-%zu\n"
            "lorapack=${1:-lorapack}\n",
            n_tasks(list) - 1);
    put_script(to, list, "", "\"$lorapack\"", "SLURM_ARRAY_TASK_ID", false);
}

static void write_k8s(FILE *to, const job_list *list)
{
    fprintf(to,
            "# Written by lorapack emit. The claim holds the directory that the manifest lies in, with all that it names;\n"
            "# the image has lorapack.\n"
            "apiVersion: batch/v1\n"
            "kind: Job\n"
            "metadata:\n"
            "  name: lorapack\n"
            "spec:\n"
            "  completionMode: Indexed\n"
            "  completions: %zu\n"
            "  parallelism: %zu\n"
            "  template:\n"
            "    spec:\n"
            "      restartPolicy: Never\n"
            "      containers:\n"
            "        - name: lorapack\n"
            "          image: ",
            n_tasks(list), n_tasks(list));
    put_quoted(to, list->image ? list->image : "REPLACE-WITH-AN-IMAGE");
    fputs("\n"
          "          workingDir: \"/work\"\n"
          "          command:\n"
          "            - \"sh\"\n"
          "            - \"-c\"\n"
          "            - |\n",
          to);
    put_script(to, list, "              ", "lorapack", "JOB_COMPLETION_INDEX", true);
    fputs("          volumeMounts:\n"
          "            - name: work\n"
          "              mountPath: \"/work\"\n"
          "      volumes:\n"
          "        - name: work\n"
          "          persistentVolumeClaim:\n"
          "            claimName: ",
          to);
    put_quoted(to, list->claim ? list->claim : "REPLACE-WITH-A-CLAIM");
    fputc('\n', to);
}

void job_write(FILE *to, job_engine engine, const job_list *list)
{
    switch (engine) {
    case JOB_MAKE:
        write_make(to, list);
        break;
    case JOB_SLURM:
        write_slurm(to, list);
        break;
    case JOB_K8S:
        write_k8s(to, list);
        break;
    }
}
