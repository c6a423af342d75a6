/*
 * nanollm-run: text from a small language model on a device without Python. It knows no architecture: the program that
 * the GGUF file carries, or FILE.nanollm beside it, says how to compute.
 */
#include "generate.h"
#include "report.h"

#include <string.h>

static const struct {
    const char *word, *name;
    command command;
    int (*run)(const options *o);
} commands[] = {
    {"", "nanollm-run", COMMAND_GENERATE, run_generate},
    {"fit", "nanollm-run fit", COMMAND_FIT, run_fit},
    {"bench", "nanollm-run bench", COMMAND_BENCH, run_bench},
    {"info", "nanollm-run info", COMMAND_INFO, run_info},
};

static void list_devices(void) {
    text t = {NULL, 0, 0};
    report_devices(&t);
    emit(t.data, t.size);
    text_free(&t);
}

int main(int argc, char **argv) {
    options o;
    size_t chosen = 0;
    for (size_t i = 1; argc > 1 && i < sizeof commands / sizeof commands[0]; i++) {
        chosen = strcmp(argv[1], commands[i].word) == 0 ? i : chosen;
    }
    const int n_words = chosen > 0 ? 2 : argc > 0 ? 1 : 0;
    program_name = commands[chosen].name;
    out_start();
    interrupt_install();
    int code = options_parse(&o, commands[chosen].command, argc - n_words, argv + n_words);
    if (code == EXIT_OK && o.help) {
        options_print_help(o.command);
    } else if (code == EXIT_OK && o.version) {
        emit("nanollm ", 8);
        emit(nano_version(), strlen(nano_version()));
        emit("\n", 1);
    } else if (code == EXIT_OK && o.list_devices) {
        list_devices();
    } else if (code == EXIT_OK) {
        code = commands[chosen].run(&o);
    }
    options_free(&o);
    return out_end(code);
}
