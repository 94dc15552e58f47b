/* The same tests of the decoder as it is built for processors whose vectors are half as wide. */
#define MP_DATA_NARROW
#include "test_data.c"
