// Which sanitizers the tests are compiled for, by g++ or by clang. All three are 0 or 1.
#pragma once

// g++ defines the first word of each, clang answers for the second.
#if defined(__SANITIZE_ADDRESS__)
#define FLATBED_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FLATBED_ADDRESS_SANITIZER 1
#endif
#endif
#ifndef FLATBED_ADDRESS_SANITIZER
#define FLATBED_ADDRESS_SANITIZER 0
#endif

#if defined(__SANITIZE_THREAD__)
#define FLATBED_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FLATBED_THREAD_SANITIZER 1
#endif
#endif
#ifndef FLATBED_THREAD_SANITIZER
#define FLATBED_THREAD_SANITIZER 0
#endif

#define FLATBED_SANITIZED (FLATBED_ADDRESS_SANITIZER || FLATBED_THREAD_SANITIZER)
