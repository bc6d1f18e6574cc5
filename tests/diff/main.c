/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Runs cases on both sides, compares, shrinks and shows what differs.
 *
 *	diff [-3] [-t] [-k] [-L] [-p] [-n instructions] [-s first seed] [-T seconds]
 *
 * -t: through the translator too, -k: as a ring-0 guest, -3: 32-bit code.
 * -L keeps LOCK, as with several vCPUs.
 * -p: programs (prog.c; -n counts programs), through the translator alone,
 * while another thread kicks it and takes its translations.
 * DIFF_COUNT sets the number of instructions, SEED=n runs one case.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "diff.h"
#include "engine/soft/soft_int.h"

#define SHOW_MAX 10

static bool ring0, verbose, prog;
static unsigned long skipped, cases, differ, faults[256];

static double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

#define FLAGS (SOFT_FL_ARITH | SOFT_FL_DF | SOFT_FL_ID)

static bool
same(const struct diff_case *c, const struct diff_outcome *a,
    const struct diff_outcome *b)
{
	uint32_t ea = a->error, eb = b->error;
	uint64_t flags = FLAGS;

#ifdef __SANITIZE_ADDRESS__
	/* The child has the sanitizer's shadow, the guest has not. */
	if (b->vector == SOFT_EXC_PF && b->cr2 < 1ul << 45 &&
	    b->cr2 > 0x7fff0000)
		return true;
#endif
	if (c->no_flags)
		flags &= ~(uint64_t)SOFT_FL_ARITH;
	/* In ring 0 the harness's own pages are open to the case. */
	if (ring0 && a->vector == SOFT_EXC_PF && a->cr2 >> 32 == 0xffffffff)
		return true;

	/* INT3 reports no error code; Linux hides whether kernel addresses
	 * are mapped. */
	if (a->vector == SOFT_EXC_PF && a->cr2 >= 0x7ffffffff000)
		ea |= 1, eb |= 1;
	if (ring0 && a->vector == SOFT_EXC_PF)
		ea &= ~4u, eb &= ~4u;
	/* Masked moves and x87 images across the end of 4 GB: limit or page,
	 * which first? */
	if (diff_m32 && a->vector == SOFT_EXC_GP && b->vector == SOFT_EXC_PF &&
	    b->cr2 < 32)
		return true;
	if (diff_m32 && a->vector == SOFT_EXC_PF && (uint32_t)(a->cr2 + 0x200) < 0x400 &&
	    (b->vector == SOFT_EXC_GP || b->vector == SOFT_EXC_SS))
		return true;
	return a->vector == b->vector && ea == eb && a->cr2 == b->cr2 &&
	    memcmp(a->out.gpr, b->out.gpr, sizeof(a->out.gpr)) == 0 &&
	    a->out.rip == b->out.rip &&
	    ((a->out.rflags ^ b->out.rflags) & flags) == 0 &&
	    memcmp(a->out.xsave, b->out.xsave, 512) == 0 &&
	    memcmp(a->out.xsave + 576, b->out.xsave + 576, 256) == 0 &&
	    memcmp(a->hash, b->hash, sizeof(a->hash)) == 0;
}

static void
show_code(const struct diff_case *c)
{
	for (unsigned at = 0; at < c->code_len;) {
		ZydisDisassembledInstruction d;
		uint64_t va = DIFF_CODE + c->code_off + at;
		bool ok = ZYAN_SUCCESS(ZydisDisassembleIntel(
		    diff_m32 ? ZYDIS_MACHINE_MODE_LEGACY_32 :
		    ZYDIS_MACHINE_MODE_LONG_64, va, c->code + at,
		    c->code_len - at, &d));
		unsigned n = ok ? d.info.length : 1;

		if (c->code[at] == 0x90 && at != 0) {
			at++; /* shrunk away */
			continue;
		}
		fprintf(stderr, "  %08lx ", va);
		for (unsigned i = 0; i < n; i++)
			fprintf(stderr, " %02x", c->code[at + i]);
		fprintf(stderr, "%*s%s\n", n < 12 ? 36 - 3 * (int)n : 2, "",
		    ok ? d.text : "(bad)");
		at += n;
	}
}

static void
show_bytes(const char *name, unsigned i, const uint8_t *in, const uint8_t *a,
    const uint8_t *b, unsigned n)
{
	const uint8_t *p[3] = { in, a, b };
	static const char *const who[3] = { "in", "host", "soft" };

	for (unsigned k = 0; k < 3; k++) {
		fprintf(stderr, "  %s%u %-5s", name, i, who[k]);
		for (unsigned j = n; j-- > 0;)
			fprintf(stderr, "%02x%s", p[k][j],
			    j % 8 == 0 ? " " : "");
		fputc('\n', stderr);
	}
}

static void
show(const struct diff_case *c, struct diff_guest *g,
    const struct diff_outcome *a, const struct diff_outcome *b)
{
	static const char *const name[16] = { "rax", "rcx", "rdx", "rbx",
		"rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12",
		"r13", "r14", "r15" };
	const uint8_t *x = c->in.xsave, *xa = a->out.xsave, *xb = b->out.xsave;

	show_code(c);
	fprintf(stderr, "  vector %#x/%#x error %#x/%#x cr2 %#lx/%#lx "
	    "rip %#lx/%#lx\n", a->vector, b->vector, a->error, b->error,
	    a->cr2, b->cr2, a->out.rip, b->out.rip);
	for (unsigned i = 0; i < 16; i++)
		if (a->out.gpr[i] != b->out.gpr[i] || a->out.gpr[i] != 0 ||
		    c->in.gpr[i] != 0)
			fprintf(stderr, "  %-3s in %016lx host %016lx soft "
			    "%016lx%s\n", name[i], c->in.gpr[i],
			    a->out.gpr[i], b->out.gpr[i],
			    a->out.gpr[i] != b->out.gpr[i] ? " <<<" : "");
	fprintf(stderr, "  flags in %04lx host %04lx soft %04lx%s\n",
	    c->in.rflags & FLAGS, a->out.rflags & FLAGS, b->out.rflags & FLAGS,
	    ((a->out.rflags ^ b->out.rflags) & FLAGS) ? " <<<" : "");
	if (memcmp(xa, xb, 6) != 0)
		show_bytes("fcw fsw ftw ", 0, x, xa, xb, 6);
	if (memcmp(xa + 24, xb + 24, 4) != 0)
		show_bytes("mxcsr ", 0, x + 24, xa + 24, xb + 24, 4);
	for (unsigned i = 0; i < 8; i++)
		if (memcmp(xa + 32 + 16 * i, xb + 32 + 16 * i, 10) != 0)
			show_bytes("st", i, x + 32 + 16 * i, xa + 32 + 16 * i,
			    xb + 32 + 16 * i, 10);
	for (unsigned i = 0; i < 16; i++) {
		if (memcmp(xa + 160 + 16 * i, xb + 160 + 16 * i, 16) != 0)
			show_bytes("xmm", i, x + 160 + 16 * i,
			    xa + 160 + 16 * i, xb + 160 + 16 * i, 16);
		if (memcmp(xa + 576 + 16 * i, xb + 576 + 16 * i, 16) != 0)
			show_bytes("ymmh", i, x + 576 + 16 * i,
			    xa + 576 + 16 * i, xb + 576 + 16 * i, 16);
	}
	for (unsigned i = 0; i < DIFF_PAGES; i++) {
		const uint8_t *pa = diff_native_page(i);
		const uint8_t *pb = diff_guest_page(g, i);

		if (a->hash[i] == b->hash[i])
			continue;
		for (unsigned j = 0, n = 0; j < DIFF_PAGE && n < 24; j++)
			if (pa[j] != pb[j]) {
				fprintf(stderr, "  [%lx] in %02x host %02x "
				    "soft %02x\n", diff_page_va(i) + j,
				    diff_image[i][j], pa[j], pb[j]);
				n++;
			}
	}
}

/* The guests: the executor's, and with -t the translator's. */
static struct diff_guest *guest[2];
static const char *const guest_name[2] = { "executor", "translator" };

static bool
ended(const struct diff_outcome *o)
{
	return o->vector < 0x100 || o->vector == DIFF_V_ERROR;
}

/* => the guest (0, 1) whose outcome b differs from the host's, a; or -1 */
static int
try(struct diff_case *c, struct diff_outcome *a, struct diff_outcome *b)
{
	if (!prog) {
		diff_guest_run(guest[0], c, b);
		if (!ended(b))
			return -1;
	}
	diff_native_run(c, 1, a);
	if (a->vector >= 0x100)
		return -1;
	if (!prog && !same(c, a, b))
		return 0;
	if (guest[1] == NULL)
		return -1;
	diff_guest_run(guest[1], c, b);
	return same(c, a, b) ? -1 : 1;
}

/* Replaces instruction i by NOPs of its length. */
static void
nop_out(struct diff_case *c, unsigned i)
{
	unsigned at = 0;

	for (unsigned k = 0; k < i; k++)
		at += c->insn_len[k];
	for (unsigned k = 0; k < c->insn_len[i] && at + k < c->code_len; k++)
		c->code[at + k] = 0x90;
}

static void
report(const struct diff_case *orig)
{
	struct diff_case c = *orig, t;
	struct diff_outcome a, b;
	int who;

	for (unsigned i = 0; i < c.ninsn; i++) {
		t = c;
		nop_out(&t, i);
		if (try(&t, &a, &b) >= 0)
			c = t;
	}
	for (unsigned i = 0; i < 16; i++) {
		t = c;
		t.in.gpr[i] = 0;
		if (c.in.gpr[i] != 0 && try(&t, &a, &b) >= 0)
			c = t;
	}
	who = try(&c, &a, &b);
	if (who < 0) {
		fprintf(stderr, "SEED=%lu does not differ alone\n", c.seed);
		show_code(&c);
		return;
	}
	fprintf(stderr, "SEED=%lu: %s\n", c.seed, guest_name[who]);
	show(&c, guest[who], &a, &b);
}

static void
batch(uint64_t seed, unsigned n)
{
	static struct diff_case c[DIFF_BATCH];
	static struct diff_outcome a[DIFF_BATCH], b[DIFF_BATCH];
	struct diff_outcome t;
	unsigned k = 0;

	for (unsigned i = 0; i < n; i++) {
		diff_gen(seed + i, &c[k]);
		diff_guest_run(guest[0], &c[k], &b[k]);
		cases++;
		/* What runs off into the forbidden is not tried natively. */
		if (ended(&b[k]))
			k++;
		else
			skipped++;
	}
	if (k == 0)
		return;
	diff_native_run(c, k, a);
	for (unsigned i = 0; i < k; i++) {
		if (a[i].vector >= 0x100) {
			skipped++;
			continue;
		}
		faults[a[i].vector]++;
		if (same(&c[i], &a[i], &b[i])) {
			if (guest[1] == NULL)
				continue;
			diff_guest_run(guest[1], &c[i], &t);
			if (same(&c[i], &a[i], &t))
				continue;
		}
		if (differ++ < SHOW_MAX)
			report(&c[i]);
	}
}

static _Atomic bool disturb_stop;

static void *
disturb(void *arg)
{
	struct timespec ts = { .tv_nsec = 30000 };

	(void)arg;
	for (unsigned n = 0; !atomic_load(&disturb_stop); n++) {
		nanosleep(&ts, NULL);
		diff_guest_disturb(guest[1], n % 4 == 0);
	}
	return NULL;
}

/* Programs are run by the host first: what ends there must end here. */
static void
programs(uint64_t seed, unsigned long count)
{
	static struct diff_case c[DIFF_BATCH];
	static struct diff_outcome a[DIFF_BATCH], b;
	pthread_t t;
	unsigned n;

	if (pthread_create(&t, NULL, disturb, NULL) != 0) {
		differ++;
		return;
	}
	for (; cases < count; cases += n, seed += n) {
		n = count - cases < DIFF_BATCH ? (unsigned)(count - cases) :
		    DIFF_BATCH;
		for (unsigned i = 0; i < n; i++)
			diff_gen_prog(seed + i, &c[i]);
		diff_native_run(c, n, a);
		for (unsigned i = 0; i < n; i++) {
			if (a[i].vector >= 0x100) {
				skipped++;
				continue;
			}
			faults[a[i].vector]++;
			/* Twice: when it is made, and when it is there. */
			for (unsigned k = 0; k < 2; k++) {
				diff_guest_run(guest[1], &c[i], &b);
				if (same(&c[i], &a[i], &b))
					continue;
				if (differ++ < SHOW_MAX)
					report(&c[i]);
				break;
			}
		}
	}
	atomic_store(&disturb_stop, true);
	pthread_join(t, NULL);
}

static void
show_coverage(void)
{
	unsigned met = 0, ran = 0;

	for (unsigned i = 0; i < 256; i++)
		if (faults[i] != 0)
			printf("  vector %u: %lu\n", i, faults[i]);
	printf("  never without a fault:");
	for (unsigned i = 1; i <= ZYDIS_MNEMONIC_MAX_VALUE; i++) {
		met += diff_met[i] != 0;
		ran += diff_ran[i] != 0;
		if (diff_met[i] != 0 && diff_ran[i] == 0)
			printf(" %s", ZydisMnemonicGetString(i));
	}
	printf("\n  %u of %u instructions met\n", ran, met);
}

int
main(int argc, char **argv)
{
	unsigned long count = 100000;
	uint64_t seed = 1;
	const char *env;
	bool translate = false;
	double t0, limit = 0;
	int opt, error;

	if ((env = getenv("DIFF_COUNT")) != NULL)
		count = strtoul(env, NULL, 0);
	while ((opt = getopt(argc, argv, "3Ltkpvn:s:T:")) != -1) {
		switch (opt) {
		case '3': diff_m32 = true; break;
		case 'L': diff_lock = true; break;
		case 't': translate = true; break;
		case 'k': ring0 = true; break;
		case 'p': prog = translate = true; break;
		case 'v': verbose = true; break;
		case 'n': count = strtoul(optarg, NULL, 0); break;
		case 's': seed = strtoul(optarg, NULL, 0); break;
		case 'T': limit = atof(optarg); break;
		default: return 2;
		}
	}
	diff_gen_image();
	error = diff_native_start();
	if (error == 0)
		error = diff_guest_create(false, ring0, &guest[0]);
	if (error == 0 && translate)
		error = diff_guest_create(true, ring0, &guest[1]);
	if (error != 0) {
		fprintf(stderr, "diff: %s\n", strerror(-error));
		return 77;
	}
	t0 = now();
	if ((env = getenv("SEED")) != NULL) {
		static struct diff_case c;
		struct diff_outcome a, b;
		int who = -1;

		/* Those before it with the same code may matter. */
		seed = strtoul(env, NULL, 0);
		for (uint64_t k = seed & ~3ul; k <= seed; k++) {
			(prog ? diff_gen_prog : diff_gen)(k, &c);
			who = try(&c, &a, &b);
		}
		differ = who >= 0;
		fprintf(stderr, "SEED=%s: %s\n", env, differ ?
		    guest_name[who] : "same");
		show(&c, guest[who == 1 || (who < 0 && translate)], &a, &b);
		if (differ)
			report(&c);
	} else if (prog) {
		programs(seed, count);
	} else {
		for (; diff_insns < count && (limit == 0 || now() - t0 < limit);
		    seed += DIFF_BATCH)
			batch(seed, DIFF_BATCH);
	}
	t0 = now() - t0;
	printf("%lu cases, %lu instructions in %.1f s (%.0f cases/s), "
	    "%lu left out, %lu differ\n", cases, (unsigned long)diff_insns, t0,
	    (double)cases / t0, skipped, differ);
	if (verbose)
		show_coverage();
	diff_native_stop();
	for (unsigned i = 0; i < 2; i++)
		if (guest[i] != NULL)
			diff_guest_destroy(guest[i]);
	return differ != 0;
}
