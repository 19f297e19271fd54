/* Preloaded into the processes that others than this server compute in: sets the number of threads of chatglm_cpp.
 *
 * chatglm_cpp 0.4.2 has no parameter for it. It asks std::thread::hardware_concurrency(), which asks get_nprocs(),
 * which tells the CPUs of the machine, whatever this process may use of them. Its threads spin while they wait for one
 * another, so more threads than CPUs make it slower by more than ten times.
 *
 * GLM_NPROCS is read once, before any thread exists; without it the answer is the true one.
 */
#include <stdlib.h>
#include <unistd.h>

static int answer;

__attribute__((constructor)) static void read_answer(void) {
    const char *text = getenv("GLM_NPROCS");
    answer = text != NULL ? atoi(text) : 0;
}

int get_nprocs(void) {
    return answer > 0 ? answer : (int)sysconf(_SC_NPROCESSORS_ONLN);
}

int get_nprocs_conf(void) {
    return answer > 0 ? answer : (int)sysconf(_SC_NPROCESSORS_CONF);
}
