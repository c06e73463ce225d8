import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { PicketError } from '../../shared/errors/errors.ts';
import { createdOperator, operatorPage } from '../../shared/protocol/operator.ts';
import { durationOption } from '../duration-option.ts';
import { collect, withExamples } from '../example.ts';
import { fields, table } from '../output.ts';
import { openSession } from '../session.ts';

/** `picket operator`: people and programs that administer the mesh, by client certificate. */
export function registerOperator(program: Command): void {
  const operator = program
    .command('operator')
    .description('who may administer: client certificates and roles');
  withExamples(
    operator
      .command('create <name>')
      .description('make a key here and have the server certify it')
      .requiredOption('--role <role>', 'admin, policy-author, registrar or auditor (repeatable)', collect)
      .option('--out <folder>', 'where client.key, client.crt and bundle.crt are written', '.')
      .addOption(durationOption('--ttl <duration>', 'life of the certificate', '30d'))
      .action(create),
    'picket operator create alice --role admin --out ~/.picket        (on the server’s host, as root: the first operator)',
    'picket --server https://server:8444 --cert ~/.picket/client.crt --key ~/.picket/client.key --ca ~/.picket/bundle.crt node list',
  );
  withExamples(
    operator.command('list').description('operators and their roles').action(list),
    'picket operator list',
  );
  withExamples(
    operator.command('revoke <name>').description('refuse the operator from now on').action(revoke),
    'picket operator revoke alice',
  );
}

async function create(
  name: string,
  options: { readonly role: readonly string[]; readonly out: string; readonly ttl: number },
  command: Command,
): Promise<void> {
  const { client, output } = openSession(command);
  const { generateClientKey } = await import('../client-key.ts');
  const { privateKeyPem, csr } = await generateClientKey();
  const body = {
    name,
    roles: options.role,
    csr: Buffer.from(csr).toString('base64'),
    ttlSeconds: options.ttl,
  };
  const made = await client.post('/operators', createdOperator, body);
  const files = {
    key: join(options.out, 'client.key'),
    certificate: join(options.out, 'client.crt'),
    bundle: join(options.out, 'bundle.crt'),
  };
  mkdirSync(options.out, { recursive: true, mode: 0o700 });
  writeNew(files.key, privateKeyPem, 0o600);
  writeNew(files.certificate, made.chainPem, 0o644);
  writeNew(files.bundle, made.bundlePem, 0o644);
  output.result({ name: made.name, spiffeId: made.spiffeId, notAfter: made.notAfter, files }, (m) =>
    fields([
      ['operator', m.spiffeId],
      ['ends', m.notAfter],
      ['key', m.files.key],
      ['certificate', m.files.certificate],
      ['trust bundle', m.files.bundle],
    ]),
  );
}

async function list(_options: unknown, command: Command): Promise<void> {
  const { client, output } = openSession(command);
  output.result(await client.getAll('/operators', operatorPage), ({ items }) =>
    table(
      items,
      [
        { title: 'name', of: (o) => o.name },
        { title: 'roles', of: (o) => o.roles.join(' ') },
        { title: 'state', of: (o) => (o.isRevoked ? 'revoked' : 'active') },
        { title: 'ends', of: (o) => o.notAfter },
      ],
      'No operator has a certificate yet; root on the server’s host administers through the unix socket.',
    ),
  );
}

async function revoke(name: string, _options: unknown, command: Command): Promise<void> {
  const { client, output } = openSession(command);
  await client.delete(`/operators/${encodeURIComponent(name)}`);
  output.result({ revoked: name }, () => `Revoked ${name}`);
}

/** Never over an existing file: a key that is overwritten is gone. */
function writeNew(path: string, text: string, mode: number): void {
  try {
    writeFileSync(path, text, { mode, flag: 'wx' });
  } catch (cause) {
    throw new PicketError(
      'failed_precondition',
      'file_not_written',
      `Cannot write ${path}: does it exist already?`,
      { cause },
    );
  }
}
