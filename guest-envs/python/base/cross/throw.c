/* Throwing a C++ exception: numpy's C++ does it when memory is out. There is no unwinding in the guest, so it is a trap. */

#include <stddef.h>

static char thrown[1024];

__attribute__((visibility("hidden"))) void *__cxa_allocate_exception(size_t size) {
    return size <= sizeof thrown ? thrown : NULL;
}

__attribute__((visibility("hidden"), noreturn)) void __cxa_throw(void *exception, void *type, void (*destroy)(void *)) {
    __builtin_trap();
}
