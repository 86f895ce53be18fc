/* SPDX-License-Identifier: MIT */
#include "tools/progress.h"

#include "tools/message.h"
#include "tools/text.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define BAR_WIDTH 24
#define LINE_SIZE 128
#define SECONDS_BETWEEN 0.1
#define MOST_SECONDS 359999 /* a guess of more than 99 hours is no news */

/* A signal handler has no other way to say that it ran. */
static volatile sig_atomic_t interrupted;

static void on_signal(int signal)
{
    (void)signal;
    interrupted = 1;
}

static void catch (int signal, int flags)
{
    struct sigaction action;

    if (sigaction(signal, NULL, &action) || action.sa_handler == SIG_IGN) // by nohup, or a shell for what runs behind it
        return;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    action.sa_flags = flags | SA_RESTART;
    sigemptyset(&action.sa_mask);
    sigaction(signal, &action, NULL);
}

void interrupt_catch(void)
{
    catch (SIGINT, (int)SA_RESETHAND);
    catch (SIGTERM, (int)SA_RESETHAND);
    catch (SIGHUP, 0); // a terminal that goes away may say so twice, itself and by its shell
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void progress_start(progress *p, const char *what, bool quiet)
{
    memset(p, 0, sizeof *p);
    p->what = what;
    p->shown = !quiet && isatty(STDERR_FILENO);
    p->start = p->drawn = now();
}

static size_t terminal_columns(void)
{
    struct winsize size;

    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) || size.ws_col == 0)
        return 80;
    return size.ws_col;
}

static void draw_line(const char *line)
{
    const size_t columns = terminal_columns();
    const int width = (int)(columns < LINE_SIZE ? columns - 1 : LINE_SIZE - 1);

    fprintf(stderr, "\r%-*.*s", width, width, line);
    fflush(stderr);
}

static void draw(const progress *p)
{
    const double share = p->total ? (double)p->done / (double)p->total : 0;
    const double seconds = p->drawn - p->start;
    const double rate = (double)p->done / seconds;
    const unsigned left = rate > 0 ? (unsigned)fmin((double)(p->total - p->done) / rate + 0.5, MOST_SECONDS) : 0;
    const int filled = (int)(share * BAR_WIDTH);
    char total[NUMBER_TEXT_SIZE], speed[NUMBER_TEXT_SIZE], line[LINE_SIZE];

    snprintf(line, sizeof line, "%s [%.*s%*s] %3d %% of %s, %s/s, %u:%02u left", p->what, filled,
             "========================", BAR_WIDTH - filled, "", (int)(share * 100), size_text(p->total, total),
             size_text((uint64_t)rate, speed), left / 60, left % 60);
    draw_line(line);
}

bool progress_update(void *ctx, uint64_t done, uint64_t total)
{
    progress *p = ctx;
    const double time = now();

    p->total = total;
    p->done = done < total ? done : total;
    if (p->shown && total && time - p->drawn >= SECONDS_BETWEEN) {
        p->drawn = time;
        draw(p);
    }
    return !interrupted;
}

void progress_end(const progress *p)
{
    if (p->shown && p->drawn > p->start) {
        draw_line("");
        fputc('\r', stderr);
    }
}

int progress_failure(const progress *p, const lorafmt_error *err, const char *output)
{
    char done[NUMBER_TEXT_SIZE], total[NUMBER_TEXT_SIZE];

    if (err->status == LORAFMT_CANCELLED)
        return message_error("%s: interrupted after %s of %s; what was written is removed", output, size_text(p->done, done),
                             size_text(p->total, total));
    if (err->os_error == EEXIST)
        return message_error("%s: exists already; --force replaces it", err->file[0] ? err->file : output);
    return message_failure(err, output);
}
