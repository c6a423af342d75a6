#include "cpu/pace.h"

/* Windows are short beside the text that a person waits for, pauses long enough that trials cost about a percent. */
enum { WINDOW = 4, FIRST_PAUSE = 8, LONGEST_PAUSE = 64 };

static const double worth_it = 0.95; /* of the time before: less is noise */

void nano_pace_start(nano_pace *pace, int32_t most) {
    *pace = (nano_pace){.most = most, .now = most, .pause = FIRST_PAUSE};
}

int32_t nano_pace_threads(const nano_pace *pace) { return pace->trial > 0 ? pace->trial : pace->now; }

static void end_trial(nano_pace *pace) {
    if (pace->seconds < worth_it * pace->before) {
        pace->now = pace->trial;
        pace->pause = FIRST_PAUSE;
        pace->to_wait = 1; /* to know what to compare the next one with */
    } else {
        pace->to_wait = pace->pause;
        pace->pause = pace->pause * 2 < LONGEST_PAUSE ? pace->pause * 2 : LONGEST_PAUSE;
    }
    pace->trial = 0;
}

static void begin_trial(nano_pace *pace) {
    const bool is_contended = pace->n_slept * 2 >= WINDOW;
    pace->before = pace->seconds;
    if (pace->to_wait > 0) {
        pace->to_wait--;
    } else if (is_contended && pace->now > 1) {
        pace->trial = pace->now - 1;
    } else if (pace->now < pace->most) {
        pace->trial = pace->now + 1;
    }
}

void nano_pace_step(nano_pace *pace, double seconds, bool slept) {
    pace->seconds += seconds;
    pace->n_slept += slept ? 1 : 0;
    if (++pace->n_steps == WINDOW) {
        (pace->trial > 0 ? end_trial : begin_trial)(pace);
        pace->n_steps = pace->n_slept = 0;
        pace->seconds = 0.0;
    }
}
