/* Chat pieces: from files, good and hostile, and the turns that are made of them. */
#include "tests/check.h"
#include "tests/tiny_gguf.h"

#include <stdlib.h>

static tiny_gguf file;

static const char *const keys[] = {"nanollm.chat.open", "nanollm.chat.system_open", "nanollm.chat.system_close",
                                   "nanollm.chat.answer", "nanollm.chat.next"};
static const char *const pieces[] = {"<o>", "<so>", "<sc>", "<a>", "<n>"};

/* A file with the pieces whose bit is set. */
static void begin(unsigned which) {
    tiny_begin(&file);
    for (unsigned i = 0; i < 5; i++) {
        if ((which & 1u << i) != 0) {
            tiny_set_str(&file, keys[i], pieces[i]);
        }
    }
}

static nano_status create(nano_chat **chat, nano_error *err) {
    nano_gguf *gguf = NULL;
    nano_status status = tiny_open(&file, &gguf, err);
    if (status == NANO_OK) {
        status = nano_chat_create(gguf, NULL, NULL, chat, err);
    }
    nano_gguf_free(gguf);
    return status;
}

static nano_str str(const char *text) { return (nano_str){text, strlen(text)}; }

static void turn_is(const nano_chat *chat, bool is_first, const char *system, const char *user, const char *expected) {
    char out[128];
    size_t n = 0, size = strlen(expected);
    nano_str system_str = str(system == NULL ? "" : system);
    const nano_str *given = system == NULL ? NULL : &system_str;
    memset(out, '#', sizeof out);
    CHECK_OK(nano_chat_turn(chat, is_first, given, str(user), NULL, 0, &n, &check_error));
    CHECK(n == size);
    CHECK_OK(nano_chat_turn(chat, is_first, given, str(user), out, size, &n, &check_error));
    CHECK(n == size && memcmp(out, expected, size) == 0 && out[size] == '#');
    if (size > 0) {
        n = 0;
        CHECK_FAILS(NANO_ERR_LIMIT, "the buffer has",
                    nano_chat_turn(chat, is_first, given, str(user), out, size - 1, &n, &check_error));
        CHECK(n == size && out[size] == '#');
    }
}

static void test_turns(void) {
    nano_chat *chat = NULL;
    begin(31);
    CHECK_OK(create(&chat, &check_error));
    turn_is(chat, true, NULL, " hi ", "<o> hi <a>");
    turn_is(chat, true, "", "hi", "<o>hi<a>");
    turn_is(chat, true, " sys\n", "hi", "<so> sys\n<sc>hi<a>");
    turn_is(chat, false, NULL, "hi", "<n>hi<a>");
    turn_is(chat, false, "sys", "hi", "<n>hi<a>");
    turn_is(chat, true, NULL, "", "<o><a>");
    nano_chat_free(chat);
    begin(1 + 8 + 16);
    CHECK_OK(create(&chat, &check_error));
    size_t n = 0;
    nano_str system = str("sys");
    CHECK_FAILS(NANO_ERR_UNSUPPORTED, "no place for a system message",
                nano_chat_turn(chat, true, &system, str("hi"), NULL, 0, &n, &check_error));
    turn_is(chat, true, NULL, "hi", "<o>hi<a>");
    turn_is(chat, false, "sys", "hi", "<n>hi<a>");
    nano_str huge = {"x", SIZE_MAX - 2};
    CHECK_FAILS(NANO_ERR_LIMIT, "address space", nano_chat_turn(chat, true, NULL, huge, NULL, 0, &n, &check_error));
    nano_str none = {NULL, 0};
    char out[8];
    CHECK_OK(nano_chat_turn(chat, true, NULL, none, out, sizeof out, &n, &check_error));
    CHECK(n == 6);
    nano_chat_free(chat);
    nano_chat_free(NULL);
}

static void test_trim(void) {
    nano_chat *chat = NULL;
    begin(31);
    tiny_set_bool(&file, "nanollm.chat.trim", true);
    CHECK_OK(create(&chat, &check_error));
    turn_is(chat, true, "\n s \x1f", "\t\xe2\x80\x83 a b\xc2\xa0\r\n", "<so>s<sc>a b<a>");
    turn_is(chat, false, NULL, " \n ", "<n><a>");
    size_t n = 0;
    CHECK_OK(nano_chat_turn(chat, false, NULL, (nano_str){NULL, 0}, NULL, 0, &n, &check_error));
    CHECK(n == strlen("<n><a>"));
    turn_is(chat, false, NULL, " \xff ", "<n>\xff<a>");               /* no UTF-8, and no space */
    turn_is(chat, false, NULL, "\xe2\x80\x8b", "<n>\xe2\x80\x8b<a>"); /* a zero-width space is none */
    nano_chat_free(chat);
    begin(31);
    tiny_set_bool(&file, "nanollm.chat.trim", true);
    tiny_set_bool(&file, "nanollm.chat.trim_system", false);
    CHECK_OK(create(&chat, &check_error));
    turn_is(chat, true, " s ", " u ", "<so> s <sc>u<a>");
    nano_chat_free(chat);
}

static void refused(nano_status status, const char *text) {
    nano_chat *chat = NULL;
    CHECK_FAILS(status, text, create(&chat, &check_error));
    CHECK(chat == NULL);
}

static void test_hostile(void) {
    static char large[33000];
    begin(0);
    refused(NANO_ERR_NOT_FOUND, "nanollm.chat.open");
    begin(1 + 8);
    refused(NANO_ERR_FORMAT, "nanollm.chat.next");
    begin(1 + 16);
    refused(NANO_ERR_FORMAT, "nanollm.chat.answer");
    begin(1 + 2 + 8 + 16);
    refused(NANO_ERR_FORMAT, "nanollm.chat.system_close");
    begin(1 + 4 + 8 + 16);
    refused(NANO_ERR_FORMAT, "nanollm.chat.system_open");
    begin(1 + 8);
    tiny_set_int(&file, "nanollm.chat.next", 7);
    refused(NANO_ERR_FORMAT, "nanollm.chat.next");
    begin(1 + 8);
    tiny_set_strs(&file, "nanollm.chat.next", pieces, 5);
    refused(NANO_ERR_FORMAT, "nanollm.chat.next");
    begin(31);
    tiny_set_int(&file, "nanollm.chat.trim", 1);
    refused(NANO_ERR_FORMAT, "nanollm.chat.trim");
    begin(31);
    tiny_set_str(&file, "nanollm.chat.trim_system", "true");
    refused(NANO_ERR_FORMAT, "nanollm.chat.trim_system");
    begin(15);
    memset(large, 'x', sizeof large - 1);
    tiny_set_str(&file, "nanollm.chat.next", large);
    refused(NANO_ERR_FORMAT, "nanollm.chat.next: found 32999 bytes, expected at most 32768");
}

static void test_names(void) {
    static const char *const names[] = {"chatml", "gemma", "llama2", "llama3", "mistral", "phi3", "zephyr", NULL};
    nano_chat *chat = NULL;
    for (int32_t i = 0; i < 8; i++) {
        const char *name = nano_chat_name_at(i);
        CHECK(names[i] == NULL ? name == NULL : name != NULL && strcmp(name, names[i]) == 0);
    }
    CHECK(nano_chat_name_at(-1) == NULL && nano_chat_name_at(1000) == NULL);
    CHECK_FAILS(NANO_ERR_ARGUMENT, "llama3, mistral", nano_chat_create(NULL, NULL, "vicuna", &chat, &check_error));
}

int main(void) {
    test_turns();
    test_trim();
    test_hostile();
    test_names();
    return check_result();
}
