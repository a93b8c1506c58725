# frozen_string_literal: true

# Loads what the system has of Ruby in the form into which an earlier run has compiled it, as Python does with its .pyc:
# a third of what a run of Puppet costs. What is not below /usr, such as the module under test, is read as ever.
module Compiled
  FOLDER = ENV['COMPILED_RUBY'].to_s

  def load_iseq(path)
    return RubyVM::InstructionSequence.compile('') if path == Provided.file
    return nil unless path.start_with?('/usr/')

    kept = File.join(FOLDER, path.tr('/', '%'))
    begin
      return RubyVM::InstructionSequence.load_from_binary(File.binread(kept))
    rescue Errno::ENOENT
      nil # not yet
    end
    compiled = RubyVM::InstructionSequence.compile_file(path)
    partial = "#{kept}.#{Process.pid}"
    File.binwrite(partial, compiled.to_binary)
    File.rename(partial, kept)
    compiled
  rescue StandardError, SyntaxError
    nil # Ruby does it by itself, and says what is wrong
  end
end

# Puppet loads its own files and adds each to $LOADED_FEATURES. Ruby 3.1 cannot know what was added there, and looks up
# the real path of every file that is loaded, again each time: a quarter of a run. `require` adds it without that.
module Provided
  class << self
    attr_reader :file
  end

  def <<(file)
    return super unless file.start_with?('/usr/') && file.end_with?('.rb')

    begin
      Provided.instance_variable_set(:@file, file)
      require file # there is nothing in it: see load_iseq
    ensure
      Provided.instance_variable_set(:@file, nil)
    end
    self
  end
end

if defined?(RubyVM::InstructionSequence) && File.directory?(Compiled::FOLDER)
  RubyVM::InstructionSequence.singleton_class.prepend(Compiled)
  $LOADED_FEATURES.singleton_class.prepend(Provided)
end
