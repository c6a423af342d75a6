/* Ctrl-C. Signals go to the main thread alone: the session's threads are started with SIGINT blocked (engine.c). */
#include "engine.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/select.h>
#include <unistd.h>

static nano_session *volatile guarded;
static volatile sig_atomic_t count, is_waiting;

static void on_signal(int number) {
    const int saved = errno;
    (void)number;
    if (is_waiting != 0) { /* pselect returns */
        count = 1;
    } else if (guarded != NULL && count == 0) {
        count = 1;
        nano_session_cancel(guarded); /* stores one atomic number */
    } else {
        (void)!write(STDERR_FILENO, program_name, strlen(program_name));
        (void)!write(STDERR_FILENO, ": error: interrupted\n", 21);
        _exit(EXIT_INTERRUPTED);
    }
    errno = saved;
}

void interrupt_install(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    (void)sigaction(SIGINT, &action, NULL);
}

void interrupt_guard(nano_session *session) {
    guarded = NULL;
    count = 0;
    guarded = session;
}

bool interrupt_came(void) { return count != 0; }

bool interrupt_wait_stdin(void) {
    sigset_t blocked, open;
    fd_set set;
    (void)sigemptyset(&blocked);
    (void)sigaddset(&blocked, SIGINT);
    (void)sigprocmask(SIG_BLOCK, &blocked, &open); /* a signal between here and pselect is not lost */
    count = 0;
    is_waiting = 1;
    int n = 0;
    do {
        FD_ZERO(&set);
        FD_SET(STDIN_FILENO, &set);
        n = pselect(STDIN_FILENO + 1, &set, NULL, NULL, NULL, &open);
    } while (n < 0 && errno == EINTR && count == 0);
    is_waiting = 0;
    (void)sigprocmask(SIG_SETMASK, &open, NULL);
    return count == 0;
}
