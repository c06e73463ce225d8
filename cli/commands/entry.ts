import type { Command } from 'commander';

import { PicketError } from '../../shared/errors/errors.ts';
import { entryPage } from '../../shared/protocol/operator.ts';
import { entry, listenerProtocol, type Entry, type Listener } from '../../shared/protocol/registration.ts';
import { durationSeconds } from '../duration-option.ts';
import { collect, withExamples } from '../example.ts';
import { fields, table } from '../output.ts';
import { openSession } from '../session.ts';

interface EntryOptions {
  readonly parent?: string;
  readonly selector?: readonly string[];
  readonly listen?: readonly string[];
  readonly ttl?: number;
  readonly dns?: readonly string[];
  readonly hint?: string;
  readonly federatesWith?: readonly string[];
}

/** `picket entry`: which process on which host is which workload, and where it listens. */
export function registerEntry(program: Command): void {
  const entries = program
    .command('entry')
    .description('registration entries: which process on which host has which identity');
  withExamples(
    entryOptions(entries.command('create <spiffe-id>').description('register a workload')).action(create),
    `picket entry create spiffe://example.org/ns/shop/sa/invoices --parent spiffe://example.org/picket/agent/tpm/web-1 \\
    --selector unix:user:www-data --listen 80/http`,
  );
  withExamples(
    entries
      .command('list')
      .description('registered workloads')
      .option('--spiffe-id <id>', 'only this identity')
      .option('--parent <id>', 'only this host')
      .action(list),
    'picket entry list --json',
  );
  withExamples(
    entries.command('show <entry-id>').description('one entry').action(show),
    'picket entry show 0b2f…',
  );
  withExamples(
    entryOptions(
      entries.command('update <entry-id>').description('change what is named, keep the rest'),
    ).action(update),
    'picket entry update 0b2f… --listen 80/http --listen 8080/tcp',
  );
  withExamples(
    entries.command('delete <entry-id>').description('withdraw the identity from its host').action(remove),
    'picket entry delete 0b2f…',
  );
}

function entryOptions(command: Command): Command {
  return command
    .option('--parent <agent-id>', 'SPIFFE ID of the host’s agent')
    .option(
      '--selector <type:value>',
      'what must be true of the process (repeatable; all must hold): unix:uid, user, gid, group, supplementary_gid, supplementary_group, path, sha256; netns:name, inode',
      collect,
    )
    .option(
      '--listen <port[/protocol][/proxy][/transparent][@address]>',
      'where it answers; protocol auto (default), http, tcp, or egress for a gateway; proxy: it expects PROXY protocol v2; transparent: it is connected from the caller’s address (repeatable)',
      collect,
    )
    .option('--ttl <duration>', 'life of its certificate (default: 24h)', durationSeconds)
    .option('--dns <name>', 'DNS name in its certificate (repeatable)', collect)
    .option('--hint <text>', 'hint for the workload that has several identities')
    .option(
      '--federates-with <trust-domain>',
      'foreign trust domain whose bundle it gets; refused until federation is built',
      collect,
    );
}

async function create(spiffeId: string, options: EntryOptions, command: Command): Promise<void> {
  const { client, output } = openSession(command);
  if (options.parent === undefined || options.selector === undefined) {
    throw new PicketError(
      'invalid_argument',
      'option_missing',
      'picket entry create needs --parent and at least one --selector',
    );
  }
  output.result(await client.post('/entries', entry, { spiffeId, ...bodyOf(options) }), renderEntry);
}

async function list(
  options: { readonly spiffeId?: string; readonly parent?: string },
  command: Command,
): Promise<void> {
  const { client, output } = openSession(command);
  const { spiffeId, parent } = options;
  const page = await client.getAll('/entries', entryPage, { spiffe_id: spiffeId, parent_id: parent });
  output.result(page, ({ items }) =>
    table(
      items,
      [
        { title: 'spiffe id', of: (e) => e.spiffeId },
        { title: 'selectors', of: (e) => e.selectors.join(' ') },
        { title: 'listeners', of: listenersOf },
        { title: 'parent', of: (e) => e.parentId },
        { title: 'entry', of: (e) => e.entryId },
      ],
      'No workload is registered yet (picket entry create --help).',
    ),
  );
}

async function show(entryId: string, _options: unknown, command: Command): Promise<void> {
  const { client, output } = openSession(command);
  output.result(await client.get(`/entries/${encodeURIComponent(entryId)}`, entry), renderEntry);
}

async function update(entryId: string, options: EntryOptions, command: Command): Promise<void> {
  const { client, output } = openSession(command);
  const path = `/entries/${encodeURIComponent(entryId)}`;
  const { entryId: _id, createdAt: _createdAt, ...present } = await client.get(path, entry);
  output.result(await client.put(path, entry, { ...present, ...bodyOf(options) }), renderEntry);
}

async function remove(entryId: string, _options: unknown, command: Command): Promise<void> {
  const { client, output } = openSession(command);
  await client.delete(`/entries/${encodeURIComponent(entryId)}`);
  output.result({ deleted: entryId }, () => `Deleted entry ${entryId}`);
}

function bodyOf(options: EntryOptions): Readonly<Record<string, unknown>> {
  const body = {
    parentId: options.parent,
    selectors: options.selector,
    listeners: options.listen?.map(parseListener),
    ttlSeconds: options.ttl,
    dnsNames: options.dns,
    hint: options.hint,
    federatesWith: options.federatesWith,
  };
  return Object.fromEntries(Object.entries(body).filter(([, value]) => value !== undefined));
}

function parseListener(text: string): Listener {
  const match =
    /^(\d{1,5})(?:\/(auto|http|tcp|egress))?(\/proxy)?(\/transparent)?(?:@([0-9a-fA-F.:]{2,45}))?$/.exec(
      text,
    );
  if (match === null)
    throw new PicketError(
      'invalid_argument',
      'listener_invalid',
      `Cannot read --listen "${text}": expected PORT or PORT/PROTOCOL, such as 80/http, with /proxy behind it for PROXY protocol v2, /transparent for connections from the caller’s address, and @ADDRESS for one address of the host alone`,
    );
  const asked = {
    ...(match[3] === undefined ? {} : { proxyProtocol: 'v2' as const }),
    ...(match[4] === undefined ? {} : { transparent: true as const }),
  };
  const protocol = listenerProtocol.parse(match[2] ?? 'auto');
  const address = match[5] === undefined ? {} : { address: match[5] };
  return { port: Number(match[1]), protocol, ...asked, ...address };
}

function listenersOf(e: Entry): string {
  const shown = e.listeners.map(({ port, protocol, proxyProtocol, transparent, address }) => {
    const asked = `${proxyProtocol === undefined ? '' : '/proxy'}${transparent === undefined ? '' : '/transparent'}`;
    return `${port}/${protocol}${asked}${address === undefined ? '' : `@${address}`}`;
  });
  return shown.join(' ') || '-';
}

function renderEntry(e: Entry): string {
  return fields([
    ['entry', e.entryId],
    ['spiffe id', e.spiffeId],
    ['parent', e.parentId],
    ['selectors', e.selectors.join(' ')],
    ['listeners', listenersOf(e)],
    ['ttl', `${e.ttlSeconds} s`],
    ['dns names', e.dnsNames.join(' ') || '-'],
    ['revision', String(e.revision)],
  ]);
}
