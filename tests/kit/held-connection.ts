import { asUser } from './programs.ts';
import type { TestHost } from './netns.ts';
import { waitUntil } from './wait.ts';

/** Asks twice on one connection, the second time when a line comes: python3 -c … ADDRESS PATH. */
const HELD = `
import http.client, sys
connection = http.client.HTTPConnection(sys.argv[1])
def ask(path):
    connection.request("GET", path)
    return connection.getresponse().read().decode()
ask("/opened")
print("held", flush=True)
sys.stdin.readline()
connection.auto_open = 0
try:
    print(ask(sys.argv[2]), flush=True)
except (OSError, http.client.HTTPException) as error:
    print(repr(error), flush=True)
`;

/** A connection to port 80 that was answered on once, and on which another request is still to come. */
export interface HeldConnection {
  /** Sends it; what was answered, or what went wrong. */
  finish(): Promise<string>;
}

/** Resolves once the connection is open, and has been answered on. */
export async function holdConnection(
  from: Pick<TestHost, 'in'>,
  { uid, address, path }: { readonly uid: number; readonly address: string; readonly path: string },
): Promise<HeldConnection> {
  const command = from.in(...asUser(uid, '/usr/bin/python3', '-uc', HELD, address, path));
  const asking = Bun.spawn(command, { stdin: 'pipe', stdout: 'pipe', cwd: '/' });
  let text = '';
  const reading = (async () => {
    for await (const bytes of asking.stdout) text += Buffer.from(bytes).toString();
  })();
  await waitUntil('the connection is open', () => text.includes('held'));
  return {
    finish: async () => {
      await asking.stdin.write('\n');
      await asking.stdin.end();
      await reading;
      return text;
    },
  };
}
