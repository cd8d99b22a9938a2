/* The inner loops for x86-64-v3; see _dense_tile.h. */
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__clang__) && __GNUC__ >= 12
#pragma GCC target("arch=x86-64-v3")
#define WORKER ternvae_dense_slab_v3
#define HIGH 4
#define WIDE 1
#include "_dense_tile.h"
#endif
