/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pager [MEGABYTES] [FOLDER]
 *
 * Paging to disk, without a guest: nanoseconds a page, in lines of
 *	PAGER name ns
 * vm-out, vm-in: the vm layer, all of an object out and, in order, back in.
 * floor-out, floor-in: the same clusters by pwrite and MADV_DONTNEED, by pread.
 * host-out, host-in: the host's kernel, MADV_PAGEOUT and touching the pages
 * again, where the host has swap; what it did not take is not counted.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/host.h"
#include "vm/vm.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif
#define CLUSTER (64ul * VMM_PAGE_SIZE)
#define READAHEAD (8ul * VMM_PAGE_SIZE)

static uint64_t len = 256ul << 20;

static double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static void
print(const char *name, double ns, uint64_t pages)
{
	printf("PAGER %s %.0f\n", name, ns / (double)pages);
}

static void
die(const char *what)
{
	perror(what);
	exit(1);
}

/* Contents that nothing can take for zeros. */
static void
fill(char *p)
{
	for (uint64_t i = 0; i < len; i += 8)
		*(uint64_t *)(p + i) = (i + 1) * 0x9e3779b97f4a7c15ul;
}

static void
vm_layer(const char *dir)
{
	struct vmspace_config cfg = { .type = PMAP_PT_EPT, .pmap_flags = PMAP_F_2M };
	struct vm_object *obj;
	struct vmspace *vms;
	struct pmap_walk w;
	uint64_t done;
	double t;

	if (vm_init() != 0 || vm_swap_init(dir, len + (64ul << 20)) != 0 ||
	    vmspace_create(&cfg, &vms) != 0 ||
	    vm_object_create_anon(len, &obj) != 0 ||
	    vm_map_insert(vms, 0, len, obj, 0, VMM_PROT_ALL, 0) != 0)
		die("vm");
	for (gpa_t g = 0; g < len; g += VMM_PAGE_SIZE)
		if (vm_fault(vms, g, VMM_PROT_WRITE) != 0)
			die("fault");
	if (pmap_walk(vmspace_pmap(vms), 0, VMM_PROT_READ, &w) != 0)
		die("walk");
	fill(PHYS_TO_DMAP(w.hpa));
	t = now();
	for (done = 0; done < len;)
		done += vmspace_reclaim(vms, len - done);
	print("vm-out", now() - t, len / VMM_PAGE_SIZE);
	t = now();
	for (gpa_t g = 0; g < len; g += VMM_PAGE_SIZE)
		while (pmap_walk(vmspace_pmap(vms), g, VMM_PROT_READ, &w) != 0)
			if (vm_fault(vms, g, VMM_PROT_READ) != 0)
				die("fault");
	print("vm-in", now() - t, len / VMM_PAGE_SIZE);
	vm_object_rele(obj);
	vmspace_destroy(vms);
	vm_swap_fini();
}

static void
floor_of_host(const char *dir)
{
	int fd = open(dir, O_TMPFILE | O_RDWR, 0600);
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE |
	    MAP_ANONYMOUS, -1, 0);
	double t;

	if (fd < 0 || p == MAP_FAILED)
		die(dir);
	fill(p);
	t = now();
	for (uint64_t i = 0; i < len; i += CLUSTER)
		if (pwrite(fd, p + i, CLUSTER, (off_t)i) != (ssize_t)CLUSTER ||
		    madvise(p + i, CLUSTER, MADV_DONTNEED) != 0)
			die("pwrite");
	print("floor-out", now() - t, len / VMM_PAGE_SIZE);
	t = now();
	for (uint64_t i = 0; i < len; i += READAHEAD)
		if (pread(fd, p + i, READAHEAD, (off_t)i) != (ssize_t)READAHEAD)
			die("pread");
	print("floor-in", now() - t, len / VMM_PAGE_SIZE);
	munmap(p, len);
	close(fd);
}

/* Pages of this process in the host's swap. */
static uint64_t
swapped(void)
{
	FILE *fp = fopen("/proc/self/status", "re");
	unsigned long kb = 0;
	char line[256];

	while (fp != NULL && fgets(line, sizeof(line), fp) != NULL)
		if (sscanf(line, "VmSwap: %lu", &kb) == 1)
			break;
	if (fp != NULL)
		fclose(fp);
	return kb * 1024 / VMM_PAGE_SIZE;
}

static void
host(void)
{
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE |
	    MAP_ANONYMOUS, -1, 0);
	uint64_t out;
	double t;

	if (p == MAP_FAILED)
		die("memory");
	fill(p);
	t = now();
	if (madvise(p, len, MADV_PAGEOUT) != 0)
		return;
	t = now() - t;
	out = swapped();
	if (out < len / VMM_PAGE_SIZE / 2)
		return; /* no swap */
	print("host-out", t, out);
	t = now();
	for (uint64_t i = 0; i < len; i += VMM_PAGE_SIZE)
		(void)*(volatile char *)(p + i);
	print("host-in", now() - t, out);
	munmap(p, len);
}

int
main(int argc, char **argv)
{
	const char *dir = argc > 2 ? argv[2] : "/var/tmp";

	if (argc > 1)
		len = strtoul(argv[1], NULL, 10) << 20;
	if (len == 0 || len > 4ul << 30) {
		fprintf(stderr, "usage: pager [MEGABYTES] [FOLDER]\n");
		return 2;
	}
	vm_layer(dir);
	floor_of_host(dir);
	host();
	return 0;
}
