import { open, rm, type FileHandle } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { Option, type Command } from 'commander';
import { PicketError } from '../../shared/errors/errors.ts';
import { serverHealth } from '../../shared/protocol/operator.ts';
import { waitForSignal } from '../../shared/runtime/signals.ts';
import { withExamples } from '../example.ts';
import { fields } from '../output.ts';
import { commandLog } from '../command-log.ts';
import { openSession, outputOf } from '../session.ts';
import { VERSION } from '../version.ts';

export const DEFAULT_SERVER_CONFIG = '/etc/picket/server.yaml';

interface ConfigOption {
  readonly config: string;
}

/** `picket server`: the role itself, its settings, its backup. */
export function registerServer(program: Command): void {
  const server = program.command('server').description('the server: run it, check its settings, back it up');
  withExamples(
    withConfig(server.command('run').description('run the server until it gets SIGTERM or SIGINT')).action(
      run,
    ),
    'picket server run --config /etc/picket/server.yaml',
  );
  withExamples(
    withConfig(server.command('check-config').description('check the settings and start nothing')).action(
      checkConfig,
    ),
    'picket server check-config --config server.yaml',
  );
  withExamples(
    server
      .command('config-example')
      .description('print a server.yaml with every setting and its default')
      .action(printExample),
    'picket server config-example > /etc/picket/server.yaml',
  );
  withExamples(
    server.command('status').description('how the server is').action(status),
    'picket server status',
  );
  withExamples(
    server
      .command('backup <file>')
      .description('write a backup of one moment; the server goes on meanwhile')
      .action(backup),
    'picket server backup /var/backups/picket-$(date +%F).ndjson',
  );
  withExamples(
    withConfig(
      server
        .command('restore <file>')
        .description('fill the empty database of a server that does not run from a backup'),
    ).action(restore),
    'picket server restore /var/backups/picket-2026-11-24.ndjson --config /etc/picket/server.yaml',
  );
}

function withConfig(command: Command): Command {
  return command.addOption(
    new Option('--config <file>', 'settings of the server')
      .env('PICKET_SERVER_CONFIG')
      .default(DEFAULT_SERVER_CONFIG),
  );
}

async function run({ config }: ConfigOption): Promise<void> {
  const { startServer } = await import('../../server/main.ts');
  const { findPeerCredentials } = await import('../../agent/native/peer-credentials.ts');
  const running = await startServer({
    configPath: config,
    environment: process.env,
    version: VERSION,
    findPeerCredentials,
    writeLog: (line) => process.stderr.write(`${line}\n`),
  });
  await waitForSignal();
  await running.stop();
}

async function checkConfig({ config }: ConfigOption, command: Command): Promise<void> {
  const { loadServerConfig } = await import('../../server/load-config.ts');
  const { trustDomain } = await loadServerConfig({ configPath: config, environment: process.env });
  outputOf(command).result({ config, trustDomain }, () => `${config} is valid: trust domain ${trustDomain}`);
}

async function printExample(_options: unknown, command: Command): Promise<void> {
  const { SERVER_CONFIG_EXAMPLE } = await import('../../server/config-example.ts');
  outputOf(command).result({ example: SERVER_CONFIG_EXAMPLE }, () => SERVER_CONFIG_EXAMPLE);
}

async function status(_options: unknown, command: Command): Promise<void> {
  const { client, output } = openSession(command);
  output.result(await client.get('/health', serverHealth), (health) =>
    fields([
      ['status', health.status],
      ['version', health.version],
      ['trust domain', health.trustDomain],
      ['datastore', health.datastore],
      ['agents connected', String(health.agentsConnected)],
      ['intermediate ends', health.intermediateNotAfter],
      ['changes', String(health.changeSequence)],
      ['hosts held back', String(health.heldBack.count)],
    ]),
  );
}

async function backup(file: string, _options: unknown, command: Command): Promise<void> {
  const { client, output } = openSession(command);
  // Before the server is asked for anything.
  const target = await openNew(file);
  output.note(`Writing ${file} …`);
  const body = await client.download('POST', '/backup').catch(async (error: unknown) => {
    await target.close();
    await rm(file, { force: true });
    throw error;
  });
  await pipeline(body, target.createWriteStream()).catch((cause: unknown) => {
    throw new PicketError(
      'unavailable',
      'backup_failed',
      `Cannot write the backup ${file}: it is not complete`,
      { cause },
    );
  });
  const { size } = Bun.file(file);
  output.result(
    { file, bytes: size },
    () => `Wrote ${file}, ${size} bytes. Keys of the certificate authority are not in it.`,
  );
}

/** Never over an existing file. Throws `already_exists`, reason `file_exists`, and `invalid_argument`, reason `file_not_written`. */
async function openNew(file: string): Promise<FileHandle> {
  try {
    return await open(file, 'wx', 0o600);
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'EEXIST')
      throw new PicketError('already_exists', 'file_exists', `${file} is there already: name another file`, {
        cause,
      });
    throw new PicketError(
      'invalid_argument',
      'file_not_written',
      `Cannot write ${file}: is the folder there, and yours to write?`,
      { cause },
    );
  }
}

async function restore(file: string, { config: configPath }: ConfigOption, command: Command): Promise<void> {
  const { loadServerConfig, openConfiguredDatastore } = await import('../../server/load-config.ts');
  const { restoreBackup } = await import('../../server/datastore/backup.ts');
  const { readBackupLines } = await import('../../server/datastore/backup-file.ts');
  const output = outputOf(command);
  const config = await loadServerConfig({ configPath, environment: process.env });
  const datastore = await openConfiguredDatastore(config, commandLog('warn'));
  try {
    output.note(`Restoring ${file} …`);
    await restoreBackup(datastore, readBackupLines(file));
  } finally {
    await datastore.close();
  }
  output.result(
    { restored: file },
    () => `Restored ${file}. Start the server: every agent gets a fresh snapshot.`,
  );
}
