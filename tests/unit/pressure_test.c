/* SPDX-License-Identifier: BSD-2-Clause */
/* hyve's watch on the host's memory pressure; poll() and the machine are ours. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hyve/pressure.h"

static _Atomic unsigned fire; /* events that poll() has still to tell */
static _Atomic unsigned reclaims;
static _Atomic uint64_t last, pageouts, refaults;

int __real_poll(struct pollfd *pfd, nfds_t n, int timeout);
int __wrap_poll(struct pollfd *pfd, nfds_t n, int timeout);

int
__wrap_poll(struct pollfd *pfd, nfds_t n, int timeout)
{
	unsigned left = atomic_load(&fire);

	(void)timeout;
	pfd[0].revents = pfd[1].revents = 0;
	if (left > 0) {
		assert_int_equal(pfd[0].events, POLLPRI);
		pfd[0].revents = POLLPRI | POLLIN; /* as PSI does */
		return 1;
	}
	/* a regular file is always ready: look at the other only */
	return __real_poll(pfd + 1, n - 1, 1);
}

int
vmm_get_info(struct vmm *vmm, struct vmm_info *info)
{
	(void)vmm;
	info->resident = 512ul << 20;
	return 0;
}

int
vmm_get_stats(struct vmm *vmm, int vcpu, struct vmm_stat *st, unsigned n,
    unsigned *np)
{
	(void)vmm;
	assert_int_equal(vcpu, -1);
	assert_true(n >= 2);
	memset(st, 0, 2 * sizeof(*st));
	strcpy(st[0].name, "vm.refaults");
	st[0].value = atomic_load(&refaults);
	strcpy(st[1].name, "vm.pageouts");
	st[1].value = atomic_load(&pageouts);
	*np = 2;
	/* The event has been dealt with, but for the reclaim. */
	atomic_fetch_sub(&fire, 1);
	return 0;
}

int
vmm_reclaim(struct vmm *vmm, uint64_t bytes, uint64_t *donep)
{
	(void)vmm;
	atomic_store(&last, bytes);
	atomic_fetch_add(&reclaims, 1);
	*donep = bytes;
	return 0;
}

static void
event(void)
{
	atomic_store(&fire, 1);
	while (atomic_load(&fire) != 0)
		usleep(1000);
	usleep(20000);
}

static void
test_watch(void **state)
{
	char path[] = "/tmp/pressure-XXXXXX", err[256], text[64] = "";
	int fd = mkstemp(path);
	struct pressure *p;
	unsigned n;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(pressure_start(NULL, path, &p, err, sizeof(err)), 0);
	assert_true(read(fd, text, sizeof(text) - 1) > 0);
	assert_string_equal(text, "some 100000 2000000");
	event();
	assert_int_equal(atomic_load(&reclaims), 1);
	assert_int_equal(atomic_load(&last), 32ul << 20);
	/* what left comes back: less and less, then nothing */
	for (unsigned i = 1; i <= 5; i++) {
		atomic_fetch_add(&pageouts, 100);
		atomic_fetch_add(&refaults, 60);
		event();
		assert_int_equal(atomic_load(&reclaims), 1 + i);
		assert_int_equal(atomic_load(&last), 32ul << 20 >> i);
	}
	n = atomic_load(&reclaims);
	for (unsigned i = 0; i < 3; i++) {
		atomic_fetch_add(&refaults, 60);
		event();
	}
	assert_int_equal(atomic_load(&reclaims), n);
	/* it stays away: more again */
	event();
	assert_int_equal(atomic_load(&last), 1ul << 20);
	event();
	assert_int_equal(atomic_load(&last), 2ul << 20);
	pressure_stop(p);
	close(fd);
	unlink(path);
}

static void
test_none(void **state)
{
	struct pressure *p;
	char err[256];

	(void)state;
	assert_int_equal(pressure_start(NULL, "/nowhere/memory.pressure", &p,
	    err, sizeof(err)), -ENOENT);
	assert_string_equal(err, "memory pressure cannot be watched: "
	    "/nowhere/memory.pressure: No such file or directory");
	pressure_stop(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_watch),
		cmocka_unit_test(test_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
