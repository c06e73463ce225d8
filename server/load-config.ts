import { mkdir, readFile } from 'node:fs/promises';
import { readSettings } from '../shared/config/config-source.ts';
import { PicketError } from '../shared/errors/errors.ts';
import type { Log } from '../shared/runtime/log.ts';
import { parseServerConfig, type ServerConfig } from './config.ts';
import type { Datastore } from './datastore/datastore.ts';
import { openDatastore } from './datastore/open-datastore.ts';

/** Where the settings come from. */
export interface ConfigLocation {
  readonly configPath: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** Reads and checks the configuration. Throws `invalid_argument`: `config_unreadable`, `config_invalid`. */
export async function loadServerConfig(location: ConfigLocation): Promise<ServerConfig> {
  const { configPath: path, environment } = location;
  const text = await readFile(path, 'utf8').catch((cause: unknown) => {
    throw new PicketError('invalid_argument', 'config_unreadable', `Cannot read ${path}`, { cause });
  });
  const parseYaml = (yaml: string): unknown => Bun.YAML.parse(yaml);
  return parseServerConfig(readSettings({ text, path, environment, prefix: 'PICKET_SERVER', parseYaml }));
}

/** Opens the database that the configuration names. */
export async function openConfiguredDatastore(config: ServerConfig, log: Log): Promise<Datastore> {
  const { trustDomain, dataDirectory, database } = config;
  const url =
    database.urlFile === undefined ? database.url : (await readFile(database.urlFile, 'utf8')).trim();
  if (url !== undefined) return await openDatastore({ url, trustDomain, log });
  await mkdir(dataDirectory, { recursive: true, mode: 0o700 });
  return await openDatastore({ dataDirectory: `${dataDirectory}/database`, trustDomain, log });
}
