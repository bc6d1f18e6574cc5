/* SPDX-License-Identifier: BSD-2-Clause */
/* Offsets in struct soft_cpu for enter.S; run.c asserts them. */
#define CPU_GPR 0
#define CPU_HOST_RSP 176
#define CPU_SHADOW_RSP 184
