/** Runs something with the path of a network namespace that belongs to a user namespace of its own, as a pod's may. */
export async function withOtherUsers(work: (path: string) => void): Promise<void> {
  const command = ['unshare', '--user', '--net', 'sh', '-c', 'echo up; read _'];
  const child = Bun.spawn(command, { stdin: 'pipe', stdout: 'pipe' });
  try {
    const { done } = await child.stdout.getReader().read();
    if (done) throw new Error('No user namespace can be made here');
    work(`/proc/${child.pid}/ns/net`);
  } finally {
    child.kill();
    await child.exited;
  }
}
