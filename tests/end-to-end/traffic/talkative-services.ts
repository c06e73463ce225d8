import { chownSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Child, runOk } from '../../kit/child.ts';
import type { TestHost } from '../../kit/netns.ts';
import { accountOf, asUser, isListening } from '../../kit/programs.ts';
import type { Service } from './traffic-mesh.ts';

/** Debian's servers whose protocols begin with the server: none of them waits for its client. */

export const SSH_PORT = 2222;
export const SMTP_PORT = 2525;
export const MARIADB_PORT = 3306;

/** Whoever logs in by SSH must have an account with a shell: PostgreSQL's is there. */
const SSH_ACCOUNT = 'postgres';
const MARIADB_USER = 7221;
const SMTP_USER = 7222;

/** OpenSSH without root. */
export const ssh: Service = {
  path: '/ssh',
  selectors: [`unix:user:${SSH_ACCOUNT}`],
  listen: [String(SSH_PORT)],
  start: async (host, folder) => {
    const { uid, gid } = accountOf(SSH_ACCOUNT);
    const own = ownFolder(folder, 'ssh', uid);
    await makeKey(join(own, 'host-key'), uid);
    const config = `Port ${SSH_PORT}
HostKey ${own}/host-key
AuthorizedKeysFile ${own}/client-key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
`;
    writeFileSync(join(own, 'sshd.conf'), config);
    const identity = ['setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups', '--'];
    return await startServer(host, {
      command: [...identity, '/usr/sbin/sshd', '-D', '-e', '-f', join(own, 'sshd.conf')],
      folder: own,
      port: SSH_PORT,
    });
  },
};

/** MariaDB on an empty folder, open to everybody. */
export const mariadb: Service = {
  path: '/mariadb',
  selectors: [`unix:uid:${MARIADB_USER}`],
  listen: [String(MARIADB_PORT)],
  start: async (host, folder) => {
    const own = ownFolder(folder, 'mariadb', MARIADB_USER);
    const settings = [
      `--datadir=${own}`,
      `--socket=${own}/socket`,
      `--port=${MARIADB_PORT}`,
      '--bind-address=*',
      '--skip-grant-tables',
      '--skip-name-resolve',
      '--innodb-buffer-pool-size=8M',
      '--performance-schema=off',
    ];
    return await startServer(host, {
      command: asUser(MARIADB_USER, '/usr/sbin/mariadbd', '--no-defaults', ...settings),
      folder: own,
      port: MARIADB_PORT,
    });
  },
};

/** Debian's aiosmtpd, which prints the mails that it gets. */
export const smtp: Service = {
  path: '/smtp',
  selectors: [`unix:uid:${SMTP_USER}`],
  listen: [String(SMTP_PORT)],
  start: async (host, folder) => {
    const daemon = ['-u', '-m', 'aiosmtpd', '-n', '-l', `0.0.0.0:${SMTP_PORT}`];
    const handler = ['-c', 'aiosmtpd.handlers.Debugging', 'stdout'];
    return await startServer(host, {
      command: asUser(SMTP_USER, '/usr/bin/python3', ...daemon, ...handler),
      folder: ownFolder(folder, 'smtp', SMTP_USER),
      port: SMTP_PORT,
    });
  },
};

/** Makes the key that `ssh` lets in, for the user who logs in with it; its file. */
export async function makeClientKey(folder: string, uid: number): Promise<string> {
  const key = join(folder, 'ssh', 'client-key');
  await makeKey(key, uid);
  return key;
}

async function makeKey(path: string, uid: number): Promise<void> {
  await runOk(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', path]);
  chownSync(path, uid, uid);
}

function ownFolder(folder: string, name: string, uid: number): string {
  const own = join(folder, name);
  mkdirSync(own, { mode: 0o711 });
  chownSync(own, uid, uid);
  return own;
}

async function startServer(
  host: TestHost,
  options: { readonly command: readonly string[]; readonly folder: string; readonly port: number },
): Promise<Child> {
  const { command, folder, port } = options;
  const child = new Child({ command: host.in(...command), logFile: join(folder, 'log'), cwd: '/' });
  await child.ready(`${command.join(' ')} listens`, async () => await isListening(host, port));
  return child;
}
