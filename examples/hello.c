/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A machine in a page of C: sixteen-bit code prints a line through a port and
 * halts.  Built against the installed library:
 *
 *	cc hello.c $(pkg-config --cflags --libs libvmm)
 */
#include <stdio.h>
#include <vmm/vmm.h>

#define LOAD 0x1000
#define PORT 0xe9

static const unsigned char code[] = {
	0xbe, 0x0d, 0x10, /* mov $text, %si */
	0xac,		  /* 1: lodsb */
	0x84, 0xc0,	  /* test %al, %al */
	0x74, 0x04,	  /* jz 2f */
	0xe6, PORT,	  /* out %al, $PORT */
	0xeb, 0xf7,	  /* jmp 1b */
	0xf4,		  /* 2: hlt, interrupts off: the machine ends */
	'h', 'e', 'l', 'l', 'o', '\n', 0,
};

static int
run(struct vmm *vmm, struct vmm_vcpu *cpu)
{
	struct vmm_exit ex = { .size = sizeof(ex) };
	struct vmm_seg cs;

	/* From the reset vector to our code. */
	if (vmm_vcpu_get_seg(cpu, VMM_SEG_CS, &cs) != 0)
		return -1;
	cs.selector = 0;
	cs.base = 0;
	if (vmm_vcpu_set_seg(cpu, VMM_SEG_CS, &cs) != 0 ||
	    vmm_vcpu_set_reg(cpu, VMM_REG_RIP, LOAD) != 0 ||
	    vmm_gpa_write(vmm, LOAD, code, sizeof(code), NULL) != 0)
		return -1;
	do {
		if (vmm_vcpu_run(cpu, &ex) != 0)
			return -1;
		if (ex.reason == VMM_EXIT_IO && ex.u.io.port == PORT)
			putchar((int)(ex.u.io.data & 0xff));
	} while (ex.reason != VMM_EXIT_SUSPEND);
	return ex.u.suspend.how == VMM_SUSPEND_HALT ? 0 : -1;
}

int
main(void)
{
	struct vmm_config cfg = { .size = sizeof(cfg), .ncpu = 1 };
	struct vmm_vcpu *cpu = NULL;
	struct vmm *vmm = NULL;
	int error;

	cfg.flags = VMM_CONFIG_NO_CONTROL;
	error = vmm_create("hello", &cfg, &vmm);
	if (error == 0)
		error = vmm_setup_memory(vmm, 1 << 20, 0);
	if (error == 0)
		error = vmm_vcpu_open(vmm, 0, &cpu);
	if (error == 0)
		error = run(vmm, cpu);
	if (error != 0)
		fprintf(stderr, "hello: %s\n", vmm_errmsg(vmm));
	vmm_vcpu_close(cpu);
	vmm_close(vmm);
	return error != 0;
}
