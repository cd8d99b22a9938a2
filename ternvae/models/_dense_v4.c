/* The inner loops for x86-64-v4; see _dense_tile.h. */
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__clang__) && __GNUC__ >= 12
#pragma GCC target("arch=x86-64-v4")
#define WORKER ternvae_dense_slab_v4
#define HIGH 8
#define WIDE 2
#include "_dense_tile.h"
#endif
