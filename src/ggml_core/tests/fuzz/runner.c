/* Runs a fuzz target over files and folders of files: a regression test where there is no libFuzzer. */
#define _XOPEN_SOURCE 700

#include <dirent.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int n_run, n_failed;

static void fail(const char *path) {
    perror(path);
    n_failed++;
}

static void run_file(const char *path, size_t size) {
    FILE *f = fopen(path, "rb");
    uint8_t *data = malloc(size > 0 ? size : 1); /* of just this size, so that a sanitizer sees a read past the end */
    if (f == NULL || data == NULL || fread(data, 1, size, f) != size) {
        fail(path);
    } else {
        (void)LLVMFuzzerTestOneInput(data, size);
        n_run++;
    }
    free(data);
    if (f != NULL) {
        fclose(f);
    }
}

static void run_path(const char *path);

static void run_folder(const char *path) {
    DIR *dir = opendir(path);
    if (dir == NULL) {
        fail(path);
        return;
    }
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        char inner[4096];
        if (entry->d_name[0] != '.') {
            snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
            run_path(inner);
        }
    }
    closedir(dir);
}

static void run_path(const char *path) {
    struct stat st;
    if (stat(path, &st) != 0) {
        fail(path);
    } else if (S_ISDIR(st.st_mode)) {
        run_folder(path);
    } else {
        run_file(path, (size_t)st.st_size);
    }
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        run_path(argv[i]);
    }
    printf("%d inputs\n", n_run);
    return n_failed > 0 || n_run == 0 ? 1 : 0;
}
