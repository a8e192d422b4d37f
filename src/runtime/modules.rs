//! The modules of a runbook: read once, before anything runs, from below the runbook's own folder or from the
//! embedded library. A run keeps their text, and a resume reads nothing else.

use super::stdlib;
use crate::base::{lock::lock_unpoisoned, suggest};
use rhai::{
    AST, ASTNode, Engine, EvalAltResult, Expr, Module, ModuleResolver, ParseError, Position, Scope, Shared,
    Stmt,
};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Component, Path, PathBuf},
    sync::Mutex,
};

/// The texts of a runbook's modules, by import path.
pub(super) type ModuleSources = BTreeMap<String, String>;

/// What is wrong with an import: where, and what.
pub(super) struct ImportError {
    pub(super) file: String,
    pub(super) at: Position,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

/// Reads every module that a script imports, and every module that those import.
///
/// # Errors
/// The first import that leads out of the root, to no module, or back to itself.
pub(super) fn read_modules(
    engine: &Engine,
    root: &Path,
    file: &str,
    text: &str,
) -> Result<ModuleSources, ImportError> {
    let mut texts = ModuleSources::new();
    read_imports(engine, root, file, text, &mut vec![], &mut texts)?;
    Ok(texts)
}

fn read_imports(
    engine: &Engine,
    root: &Path,
    file: &str,
    text: &str,
    above: &mut Vec<String>,
    texts: &mut ModuleSources,
) -> Result<(), ImportError> {
    let bad = |at, message: String, hint: Option<&str>| ImportError {
        file: file.into(),
        at,
        message,
        hint: hint.map(Into::into),
    };
    // Whoever compiles the text next reports why it does not compile.
    let Ok(ast) = compile_runbook_text(engine, text) else { return Ok(()) };
    for (path, at) in find_imports(&ast) {
        let path = path.ok_or_else(|| {
            bad(at, "the path of an import is a literal".into(), Some("write it as \"./lib/name\""))
        })?;
        if let Some(start) = above.iter().position(|p| *p == path) {
            let circle = [&above[start..], std::slice::from_ref(&path)].concat().join(" -> ");
            return Err(bad(at, format!("imports go round in a circle: {circle}"), None));
        }
        if texts.contains_key(&path) {
            continue;
        }
        let module = read_module(root, &path).map_err(|why| {
            bad(at, why, Some("modules are files below the runbook's own folder, or `std/…`"))
        })?;
        texts.insert(path.clone(), module.clone());
        above.push(path.clone());
        read_imports(engine, root, &path, &module, above, texts)?;
        above.pop();
    }
    Ok(())
}

/// Compiles a runbook with `params` in scope: it is the one variable that a runbook has without declaring it.
pub(super) fn compile_runbook_text(engine: &Engine, text: &str) -> Result<AST, ParseError> {
    let mut variables = Scope::new();
    variables.push_constant("params", rhai::Map::new());
    engine.compile_with_scope(&variables, text)
}

/// Returns the literal paths that a script imports; `None` where a path is computed.
fn find_imports(ast: &AST) -> Vec<(Option<String>, Position)> {
    let mut found = Vec::new();
    ast.walk(&mut |path: &[ASTNode<'_>]| {
        if let Some(ASTNode::Stmt(Stmt::Import(import, at))) = path.last() {
            let literal = match &import.0 {
                Expr::StringConstant(text, _) => Some(text.to_string()),
                _ => None,
            };
            found.push((literal, *at));
        }
        true
    });
    found
}

fn read_module(root: &Path, path: &str) -> Result<String, String> {
    if path.starts_with("std/") {
        return stdlib::find_module_text(path).map(str::to_owned).ok_or_else(|| {
            let hint =
                suggest::suggest_name_or_list_known(path, stdlib::MODULES.iter().map(|(name, _)| *name));
            format!("there is no library module `{path}`: {hint}")
        });
    }
    // The ending is added, not set: `lib/v1.2` is `lib/v1.2.rhai`.
    let wrong = |why: &str| format!("module `{path}` cannot be read: {why}");
    let file = match find_file_below(root, &format!("{path}.rhai")) {
        Err(FileError::Outside(how)) => {
            return Err(format!("`{path}` leads out of the runbook's folder{how}"));
        }
        Err(FileError::Unreadable(why)) => return Err(wrong(&why)),
        Ok(file) => file,
    };
    fs::read_to_string(file).map_err(|e| wrong(&e.to_string()))
}

/// Why a path names no file below a folder.
pub(super) enum FileError {
    /// It leads out of the folder; how, where that is not plain to see.
    Outside(&'static str),
    /// It cannot be read: which file, and why.
    Unreadable(String),
}

/// Returns the file below a runbook's own folder that a path names.
///
/// # Errors
/// It leads out, or is not there.
pub(super) fn find_file_below(root: &Path, path: &str) -> Result<PathBuf, FileError> {
    let inside = Path::new(path);
    let allowed = |c: Component<'_>| matches!(c, Component::Normal(_) | Component::CurDir);
    if inside.is_absolute() || !inside.components().all(allowed) {
        return Err(FileError::Outside(""));
    }
    let file = root.join(inside);
    let unreadable = |of: &Path, e: io::Error| FileError::Unreadable(format!("{} ({e})", of.display()));
    let real = file.canonicalize().map_err(|e| unreadable(&file, e))?;
    let root = root.canonicalize().map_err(|e| unreadable(root, e))?;
    if real.starts_with(root) { Ok(real) } else { Err(FileError::Outside(" through a link")) }
}

/// Resolves imports from texts that were read before.
pub(super) struct PreloadedModules {
    texts: ModuleSources,
    compiled: Mutex<BTreeMap<String, Shared<Module>>>,
}

impl PreloadedModules {
    pub(super) fn new(texts: ModuleSources) -> Self {
        Self { texts, compiled: Mutex::default() }
    }
}

impl ModuleResolver for PreloadedModules {
    fn resolve(
        &self,
        engine: &Engine,
        _: Option<&str>,
        path: &str,
        at: Position,
    ) -> Result<Shared<Module>, Box<EvalAltResult>> {
        if let Some(module) = lock_unpoisoned(&self.compiled).get(path) {
            return Ok(Shared::clone(module));
        }
        let text = self.texts.get(path).ok_or_else(|| EvalAltResult::ErrorModuleNotFound(path.into(), at))?;
        let in_module = |e: Box<EvalAltResult>| EvalAltResult::ErrorInModule(path.into(), e, at);
        let mut ast = engine.compile(text).map_err(|e| in_module(Box::new(e.into())))?;
        ast.set_source(path);
        let module: Shared<Module> =
            Module::eval_ast_as_new(Scope::new(), &ast, engine).map_err(in_module)?.into();
        lock_unpoisoned(&self.compiled).insert(path.to_owned(), Shared::clone(&module));
        Ok(module)
    }
}
