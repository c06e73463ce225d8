import { afterEach, describe, expect, test } from 'bun:test';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { chooseListeners } from './listener-choice.ts';
import { libc } from './libc.ts';
import { findTcpListener, openTcpListener } from './listening-socket.ts';

const stops: (() => void)[] = [];

afterEach(() => {
  for (const stop of stops.splice(0).toReversed()) stop();
});

/** Listens `count` times on one port; each listener answers with its number. */
function openGroup(count: number): { readonly port: number; readonly fds: readonly number[] } {
  const first = openTcpListener({ address: '::', port: 0 }, { sharesPort: true });
  const port = findTcpListener(first)?.port ?? 0;
  const fds = [first];
  while (fds.length < count) fds.push(openTcpListener({ address: '::', port }, { sharesPort: true }));
  for (const [index, fd] of fds.entries()) serve(fd, String(index));
  return { port, fds };
}

function serve(fd: number, name: string): void {
  const socket = { open: (each: Bun.Socket) => void each.end(name), data: () => undefined };
  const listener = Bun.listen({ fd, socket } as unknown as Bun.TCPSocketListenOptions);
  stops.push(() => listener.stop(true));
}

/** Who answers a connection from that address of loopback. */
async function ask(port: number, host: string, localAddress?: string): Promise<string> {
  const command = [
    'import socket,sys',
    's=socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)',
    'if sys.argv[3]: s.bind((sys.argv[3],0))',
    's.connect((sys.argv[1],int(sys.argv[2])))',
    'print(s.recv(9).decode())',
  ].join('\n');
  const child = Bun.spawn(['python3', '-c', command, host, String(port), localAddress ?? ''], {
    stdout: 'pipe',
    stderr: 'inherit',
  });
  return (await new Response(child.stdout).text()).trim();
}

/** Who answers connections of this process. */
async function askHere(port: number): Promise<string> {
  return await new Promise((resolve, reject) => {
    let said = '';
    void Bun.connect({
      hostname: '127.0.0.1',
      port,
      socket: {
        data: (_, bytes) => void (said += bytes.toString()),
        close: () => resolve(said),
        error: (_, error) => reject(error),
      },
    }).catch(reject);
  });
}

describe('chooseListeners()', () => {
  test('gives all connections of one source address to one listener, and different ones to all', async () => {
    const { port, fds } = openGroup(3);
    stops.push(chooseListeners(fds, 'source'));
    const seen = new Set<string>();
    // By a seed of the machine's: of 24 addresses none leads to one of the three once in 6,000 times, of 60 never.
    for (let host = 1; host <= 60 && (seen.size < 3 || host <= 4); host++) {
      const from = `127.1.0.${host}`;
      const answers = await Promise.all(
        Array.from({ length: 3 }, async () => await ask(port, '127.0.0.1', from)),
      );
      expect(new Set(answers).size).toBe(1);
      seen.add(answers[0] ?? '');
    }
    expect([...seen].toSorted()).toEqual(['0', '1', '2']);
  });

  test('knows sources of IPv6 as well', async () => {
    const { port, fds } = openGroup(4);
    stops.push(chooseListeners(fds, 'source'));
    const answers = await Promise.all(Array.from({ length: 6 }, async () => await ask(port, '::1')));
    expect(new Set(answers).size).toBe(1);
  });

  test('gives connections of one process to one listener', async () => {
    const { port, fds } = openGroup(4);
    stops.push(chooseListeners(fds, 'process'));
    const answers: string[] = [];
    for (let i = 0; i < 40; i++) answers.push(await askHere(port));
    const counts = Map.groupBy(answers, (answer) => answer);
    const most = Math.max(...Array.from(counts.values(), (each) => each.length));
    // What the kernel works off for somebody else, in the middle of another process or on a busy machine in one of its own, counts as that one's. By themselves they are spread over all four.
    expect(most).toBeGreaterThanOrEqual(answers.length / 2);
  });

  test('gives nothing to a socket that joined the group beside it', async () => {
    const { port, fds } = openGroup(2);
    stops.push(chooseListeners(fds, 'source'));
    serve(openTcpListener({ address: '::', port }, { sharesPort: true }), 'intruder');
    const answers = await Promise.all(
      Array.from({ length: 12 }, async (_, i) => await ask(port, '127.0.0.1', `127.2.0.${i + 1}`)),
    );
    expect(answers).not.toContain('intruder');
  });

  test('lets another take the sockets once they were given back, and not before', async () => {
    const { port, fds } = openGroup(2);
    const release = chooseListeners(fds, 'source');
    expect(reasonOf(() => chooseListeners(fds, 'source'))).toBe('bpf');
    release();
    stops.push(chooseListeners(fds, 'source'));
    expect(['0', '1']).toContain(await ask(port, '127.0.0.1'));
  });

  test('refuses a socket that shares no port', () => {
    const alone = openTcpListener({ address: '127.0.0.1', port: 0 });
    stops.push(() => libc().close(alone));
    expect(reasonOf(() => chooseListeners([alone], 'source'))).toBe('socket_option');
    expect(() => chooseListeners([], 'source')).toThrow(RangeError);
  });
});
