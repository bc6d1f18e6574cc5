/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Floating point.  No operation here may be fused or reordered, so that the
 * bits of the results agree on every processor.
 */
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "work.h"

#define FP_DIM 96

static double fp_a[FP_DIM][FP_DIM] __attribute__((aligned(32)));
static double fp_b[FP_DIM][FP_DIM] __attribute__((aligned(32)));
static double fp_c[FP_DIM][FP_DIM] __attribute__((aligned(32)));

static uint64_t
fp_bits(double d)
{
	uint64_t v;

	memcpy(&v, &d, sizeof(v));
	return v;
}

static void
fp_matmul_sse2(void)
{
	for (int i = 0; i < FP_DIM; i++)
		for (int j = 0; j < FP_DIM; j += 2) {
			__m128d s = _mm_setzero_pd();

			for (int k = 0; k < FP_DIM; k++)
				s = _mm_add_pd(s,
				    _mm_mul_pd(_mm_set1_pd(fp_a[i][k]),
					_mm_load_pd(&fp_b[k][j])));
			_mm_store_pd(&fp_c[i][j], s);
		}
}

static __attribute__((target("avx2"))) void
fp_matmul_avx2(void)
{
	for (int i = 0; i < FP_DIM; i++)
		for (int j = 0; j < FP_DIM; j += 4) {
			__m256d s = _mm256_setzero_pd();

			for (int k = 0; k < FP_DIM; k++)
				s = _mm256_add_pd(s,
				    _mm256_mul_pd(
					_mm256_broadcast_sd(&fp_a[i][k]),
					_mm256_load_pd(&fp_b[k][j])));
			_mm256_store_pd(&fp_c[i][j], s);
		}
}

static uint64_t
fp_matmul(uint64_t n, void (*fn)(void))
{
	uint64_t sum = 0;

	for (int i = 0; i < FP_DIM; i++)
		for (int j = 0; j < FP_DIM; j++) {
			fp_a[i][j] = 1.0 / (1 + i + j);
			fp_b[i][j] = (i * 7 + j * 3) % 11 - 5.25;
		}
	for (uint64_t r = 0; r < n; r++) {
		fn();
		fp_a[r % FP_DIM][5] += fp_c[3][r % FP_DIM] * 0x1p-10;
	}
	for (int i = 0; i < FP_DIM; i++)
		sum = work_mix(sum, fp_bits(fp_c[i][i]));
	return sum;
}

static uint64_t
run_matmul_sse2(uint64_t n)
{
	return fp_matmul(n, fp_matmul_sse2);
}

static uint64_t
run_matmul_avx2(uint64_t n)
{
	return fp_matmul(n, fp_matmul_avx2);
}

static bool
fp_can_avx2(void)
{
	return __builtin_cpu_supports("avx2");
}

#define FP_BODIES 5

static uint64_t
run_nbody(uint64_t n)
{
	double x[FP_BODIES][3], v[FP_BODIES][3], m[FP_BODIES];
	uint64_t sum = 0;

	for (int i = 0; i < FP_BODIES; i++) {
		m[i] = 1.0 / (1 + i);
		for (int k = 0; k < 3; k++) {
			x[i][k] = (i * 3 + k) % 7 - 3.0 + 0.25 * i;
			v[i][k] = ((i + 2 * k) % 5 - 2.0) * 0.1;
		}
	}
	for (uint64_t step = 0; step < n; step++) {
		for (int i = 0; i < FP_BODIES; i++)
			for (int j = i + 1; j < FP_BODIES; j++) {
				double d[3], r2 = 0.01, mag;

				for (int k = 0; k < 3; k++) {
					d[k] = x[i][k] - x[j][k];
					r2 += d[k] * d[k];
				}
				mag = 0.001 / (r2 * sqrt(r2));
				for (int k = 0; k < 3; k++) {
					v[i][k] -= d[k] * m[j] * mag;
					v[j][k] += d[k] * m[i] * mag;
				}
			}
		for (int i = 0; i < FP_BODIES; i++)
			for (int k = 0; k < 3; k++)
				x[i][k] += 0.001 * v[i][k];
	}
	for (int i = 0; i < FP_BODIES; i++)
		sum = work_mix(sum, fp_bits(x[i][0]));
	return sum;
}

/* 80-bit: Newton's square root and a polynomial, in the x87. */
static uint64_t
run_x87(uint64_t n)
{
	long double acc = 0, x = 1.5L;
	uint64_t lo;

	for (uint64_t i = 0; i < n; i++) {
		long double r = x, p;

		for (int k = 0; k < 3; k++)
			r = (r + x / r) * 0.5L;
		p = ((0.1L * x - 0.25L) * x + 0.5L) * x - r;
		acc = acc * 0.5L + p;
		x += 0.0009765625L;
		if (x > 3)
			x -= 2;
	}
	memcpy(&lo, &acc, sizeof(lo));
	return lo;
}

const struct work work_fp[] = {
	{ "matmul-sse2", "fp", "product", 220, run_matmul_sse2, NULL },
	{ "matmul-avx2", "fp", "product", 400, run_matmul_avx2, fp_can_avx2 },
	{ "nbody", "fp", "step", 800000, run_nbody, NULL },
	{ "x87", "fp", "step", 2000000, run_x87, NULL },
	{ NULL, NULL, NULL, 0, NULL, NULL },
};
