# Dagster's Postgres. Its password is made and kept by RDS: no state and no variable ever holds it.

locals {
  database_secret_arn = aws_db_instance.dagster.master_user_secret[0].secret_arn
  database_name       = "dagster"
  database_port       = 5432
}

resource "aws_db_subnet_group" "dagster" {
  name       = var.name
  subnet_ids = var.network.private_subnets
}

resource "aws_db_parameter_group" "dagster" {
  name   = var.name
  family = "postgres17"

  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }

  parameter {
    name  = "log_min_duration_statement"
    value = "1000"
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_db_instance" "dagster" {
  #checkov:skip=CKV_AWS_118:Performance Insights and the alarms on disk and CPU tell what a database of this size can have
  #checkov:skip=CKV_AWS_161:Dagster logs in by password, which RDS makes, keeps and changes
  #checkov:skip=CKV_AWS_293:protected where the environment does not allow deletion

  identifier     = var.name
  engine         = "postgres"
  engine_version = "17"
  instance_class = var.database.class

  allocated_storage     = var.database.storage_gb
  max_allocated_storage = var.database.storage_max
  storage_type          = "gp3"
  storage_encrypted     = true
  kms_key_id            = var.kms_key_arn

  db_name                       = local.database_name
  username                      = "dagster"
  port                          = local.database_port
  manage_master_user_password   = true
  master_user_secret_kms_key_id = var.kms_key_arn

  db_subnet_group_name   = aws_db_subnet_group.dagster.name
  parameter_group_name   = aws_db_parameter_group.dagster.name
  vpc_security_group_ids = [aws_security_group.this["database"].id]
  publicly_accessible    = false
  multi_az               = var.database.multi_az
  ca_cert_identifier     = "rds-ca-rsa2048-g1"

  backup_retention_period    = var.database.backup_days
  backup_window              = "18:00-18:30"
  maintenance_window         = "sun:19:00-sun:19:30"
  auto_minor_version_upgrade = true
  copy_tags_to_snapshot      = true
  deletion_protection        = !var.allow_deletion
  skip_final_snapshot        = var.allow_deletion
  final_snapshot_identifier  = "${var.name}-last"

  enabled_cloudwatch_logs_exports       = ["postgresql", "upgrade"]
  performance_insights_enabled          = true
  performance_insights_kms_key_id       = var.kms_key_arn
  performance_insights_retention_period = 7
}

# A task has the password that it was started with, and RDS would change it weekly at any hour: here it does so as
# seldom as it can, and a person changes it with `make password`, which starts the tasks anew.
resource "aws_secretsmanager_secret_rotation" "database" {
  #checkov:skip=CKV_AWS_304:sooner by a person, with what uses it

  secret_id          = local.database_secret_arn
  rotate_immediately = false

  rotation_rules {
    automatically_after_days = 1000
  }
}
