/* oldclock FILE COMMAND...: runs a command whose wall clock is that of a board without a battery. FILE holds, as a 64-bit number, the seconds
 * to add to the real time; who writes it sets the clock, while the command runs.
 *
 * The command is an ordinary program and knows nothing: it finds no vDSO in its auxiliary vector, so it asks the kernel for the
 * time (CLOCK_REALTIME), and the kernel asks us (seccomp_unotify(2)). The monotonic clock is the real one.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static pid_t child;

static void die(const char *what) {
	perror(what);
	if (child > 0) kill(child, SIGKILL);
	exit(125);
}

static void forward(int s) { kill(child, s); }

/* Has the kernel ask about CLOCK_REALTIME from here on; returns where it asks. */
static int install(void) {
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_clock_gettime, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, CLOCK_REALTIME, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof code / sizeof *code, code};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) return -1;
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

static uint64_t stack_pointer(void) {
	struct user_regs_struct regs;
	struct iovec io = {&regs, sizeof regs};
	if (ptrace(PTRACE_GETREGSET, child, NT_PRSTATUS, &io)) die("oldclock: registers");
#ifdef __x86_64__
	return regs.rsp;
#else
	return regs.sp;
#endif
}

/* The stack of a new program: argc, arguments, 0, environment, 0, pairs of the auxiliary vector. */
static void hide_vdso(void) {
	uint64_t at = stack_pointer() + 8;
	for (int lists = 0; lists < 2; at += 8)
		if (ptrace(PTRACE_PEEKDATA, child, at, 0) == 0) lists++;
	for (uint64_t type; (type = (uint64_t)ptrace(PTRACE_PEEKDATA, child, at, 0)) != AT_NULL; at += 16)
		if (type == AT_SYSINFO_EHDR && ptrace(PTRACE_POKEDATA, child, at, AT_IGNORE)) die("oldclock: vDSO");
}

static void answer(int asks, const volatile int64_t *shift) {
	struct seccomp_notif q;
	memset(&q, 0, sizeof q);
	if (ioctl(asks, SECCOMP_IOCTL_NOTIF_RECV, &q)) {
		if (errno == ENOENT || errno == EINTR) return; /* it was interrupted, or is gone */
		die("oldclock: receive");
	}
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	now.tv_sec += *shift;
	struct iovec from = {&now, sizeof now}, to = {(void *)(uintptr_t)q.data.args[1], sizeof now};
	struct seccomp_notif_resp a = {.id = q.id};
	if (process_vm_writev((pid_t)q.pid, &from, 1, &to, 1, 0) != (ssize_t)sizeof now) a.error = -EFAULT;
	if (ioctl(asks, SECCOMP_IOCTL_NOTIF_SEND, &a) && errno != ENOENT) die("oldclock: send");
}

int main(int argc, char **argv) {
	int pipes[2], theirs, status;
	if (argc < 3) return 125;
	int file = open(argv[1], O_RDONLY);
	const volatile int64_t *shift = mmap(0, sizeof *shift, PROT_READ, MAP_SHARED, file, 0);
	if (file < 0 || shift == MAP_FAILED || pipe2(pipes, O_CLOEXEC)) die("oldclock");
	if ((child = fork()) == 0) {
		theirs = install();
		if (theirs < 0 || fcntl(theirs, F_SETFD, FD_CLOEXEC) || write(pipes[1], &theirs, sizeof theirs) < 0 || ptrace(PTRACE_TRACEME, 0, 0, 0)) die("oldclock: seccomp");
		raise(SIGSTOP); /* until the other side has its end */
		execvp(argv[2], argv + 2);
		die(argv[2]);
	}
	if (waitpid(child, &status, 0) < 0 || !WIFSTOPPED(status) || read(pipes[0], &theirs, sizeof theirs) != sizeof theirs) die("oldclock: fork");
	int asks = (int)syscall(SYS_pidfd_getfd, syscall(SYS_pidfd_open, child, 0), theirs, 0);
	if (asks < 0) die("oldclock: pidfd_getfd");
	if (ptrace(PTRACE_CONT, child, 0, 0) || waitpid(child, &status, 0) < 0 || !WIFSTOPPED(status)) die("oldclock: exec");
	hide_vdso();
	signal(SIGTERM, forward);
	signal(SIGHUP, forward);
	if (ptrace(PTRACE_DETACH, child, 0, 0)) die("oldclock: detach");
	for (;;) {
		struct pollfd p = {asks, POLLIN, 0};
		if (poll(&p, 1, 100) > 0 && p.revents & POLLIN) answer(asks, shift);
		else if (waitpid(child, &status, WNOHANG) == child) return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	}
}
