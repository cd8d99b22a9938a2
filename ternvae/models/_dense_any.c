/* The inner loops for any processor; see _dense_tile.h. */
#define WORKER ternvae_dense_slab
#define HIGH 4
#define WIDE 1
#include "_dense_tile.h"
