/** The initial files of a new app: Vite, React, TypeScript, and one page. */
import { SandboxPath } from "../../sandbox/SandboxFile.ts"

/** The directory of an app's project, relative to the sandbox's home directory. */
export const project = "app"

/** The path of a project file, as the sandbox provider expects it. */
export const inProject = (file: string): SandboxPath => SandboxPath.make(`${project}/${file}`)

const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`

/** File contents by path. Versions are pinned, so that every app starts with the tested ones. */
export const scaffold: Readonly<Record<string, string>> = {
  "package.json": json({
    name: "app",
    private: true,
    version: "0.0.0",
    type: "module",
    scripts: { dev: "vite", build: "vite build", preview: "vite preview", typecheck: "tsc --noEmit" },
    dependencies: { react: "19.3.1", "react-dom": "19.3.1" },
    devDependencies: {
      "@types/react": "19.3.0",
      "@types/react-dom": "19.3.0",
      "@vitejs/plugin-react": "6.3.0",
      typescript: "7.0.2",
      vite: "8.3.8"
    }
  }),
  "tsconfig.json": json({
    compilerOptions: {
      target: "ES2023",
      lib: ["ES2023", "DOM", "DOM.Iterable"],
      module: "ESNext",
      moduleResolution: "bundler",
      jsx: "react-jsx",
      types: ["vite/client"],
      strict: true,
      noEmit: true,
      skipLibCheck: true,
      allowJs: true,
      allowImportingTsExtensions: true,
      resolveJsonModule: true
    },
    include: ["src", "vite.config.ts"]
  }),
  "vite.config.ts": `import react from "@vitejs/plugin-react"
import { defineConfig } from "vite"

export default defineConfig({
  plugins: [react()]
})
`,
  "index.html": `<!doctype html>
<html lang="en">
  <head>
    <meta charset="UTF-8" />
    <meta name="viewport" content="width=device-width, initial-scale=1.0" />
    <title>App</title>
  </head>
  <body>
    <div id="root"></div>
    <script type="module" src="/src/main.tsx"></script>
  </body>
</html>
`,
  "src/main.tsx": `import { StrictMode } from "react"
import { createRoot } from "react-dom/client"
import App from "./App.tsx"
import "./index.css"

createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <App />
  </StrictMode>
)
`,
  "src/App.tsx": `export default function App() {
  return (
    <main>
      <h1>It works</h1>
      <p>
        This page is <code>src/App.tsx</code>. What is written there appears here.
      </p>
    </main>
  )
}
`,
  "src/index.css": `:root {
  color-scheme: light dark;
  font-family: system-ui, sans-serif;
  line-height: 1.5;
}

body {
  margin: 0;
  min-height: 100vh;
  display: grid;
  place-items: center;
}
`,
  ".gitignore": `node_modules
dist
*.local
`
}
