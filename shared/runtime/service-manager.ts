/**
 * Tells systemd that the service is ready (sd_notify(3)), by the socket of $NOTIFY_SOCKET, and with `mainPid` which process is its main one from now on; nothing when there is no
 * socket. Resolves once systemd has read it. It never fails the service.
 */
export async function notifyReady(
  socket: string | undefined,
  { mainPid }: { readonly mainPid?: number } = {},
): Promise<void> {
  if (socket === undefined || socket === '') return;
  // Bun has no datagram sockets on unix paths: systemd's own program speaks for us, and is allowed to by NotifyAccess=all.
  const program = Bun.which('systemd-notify');
  if (program === null) return;
  const isMain = mainPid === undefined ? [] : [`--pid=${mainPid}`];
  const child = Bun.spawn([program, '--ready', ...isMain], {
    stdin: 'ignore',
    stdout: 'ignore',
    stderr: 'ignore',
    env: { NOTIFY_SOCKET: socket },
    timeout: 5000,
  });
  await child.exited;
}
