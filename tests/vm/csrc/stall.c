// SPDX-License-Identifier: GPL-2.0-only
/*
 * An agent whose memory never comes: its SUBMIT and REINIT hang on pages that
 * nobody fills. Meanwhile the owner of its proxy leaves.
 *
 *	stall 8|3	number of the ioctl
 *
 * Status 0 when the example module could be unloaded while the call hung.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "mlproxy_ioctl.h"

#define PAGE	4096UL

static unsigned char *absent;
static int fd, number;

#define MUST(condition) do {						\
	if (!(condition)) {						\
		fprintf(stderr, "%s: %s\n", #condition, strerror(errno)); \
		exit(1);						\
	}								\
} while (0)

static void *agent(void *unused)
{
	struct mlp_ioc_submit submit = { .data = (unsigned long)absent, .length = 64 };

	(void)unused;
	/* REINIT's argument itself lies there. */
	ioctl(fd, number == 8 ? MLP_IOC_SUBMIT : MLP_IOC_REINIT,
	      number == 8 ? (void *)&submit : (void *)absent);
	fprintf(stderr, "the call did not hang\n");
	exit(1);
}

int main(int argc, char **argv)
{
	struct mlp_ioc_attach attach = { .abi_version = MLP_ABI_VERSION, .name = "example" };
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct mlp_ioc_snapshot gone = { 0 };
	struct pollfd wait = { .events = POLLIN };
	pthread_t thread;

	MUST(argc == 2);
	number = atoi(argv[1]);
	fd = open("/dev/mlproxy", O_RDWR);
	MUST(fd >= 0 && !ioctl(fd, MLP_IOC_ATTACH, &attach));
	absent = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	wait.fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	MUST(wait.fd >= 0 && !ioctl(wait.fd, UFFDIO_API, &api));
	range.range.start = (unsigned long)absent;
	range.range.len = PAGE;
	MUST(!ioctl(wait.fd, UFFDIO_REGISTER, &range));
	MUST(!pthread_create(&thread, NULL, agent, NULL));
	MUST(poll(&wait, 1, -1) == 1);		/* it hangs now */
	MUST(!syscall(SYS_delete_module, "mlproxy_example", O_NONBLOCK));
	MUST(ioctl(fd, MLP_IOC_SNAPSHOT, &gone) && errno == ENODEV);
	return 0;				/* ends the other thread too */
}
