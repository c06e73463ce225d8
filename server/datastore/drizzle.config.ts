import { defineConfig } from 'drizzle-kit';

/**
 * For `bunx drizzle-kit generate --config server/datastore/drizzle.config.ts --name what_changed`, which writes the next migration; then list it in
 * `migrations.ts`.
 */
export default defineConfig({
  dialect: 'postgresql',
  schema: './server/datastore/schema.ts',
  out: './server/datastore/migrations',
});
